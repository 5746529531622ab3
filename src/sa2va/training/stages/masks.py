"""Pre-train SAM 2: points, boxes and object codes on pictures, then tracking on clips.

Flow: drawn scenes -> image encoder -> prompts -> decoder -> mask losses; clips go on through the memory.
Source: the paper's SAM 2 comes pre-trained on points, boxes and tracking; ours gets the same here. The object code
    is our own addition: one token, in the place of the [SEG] embedding, made from what an object looks like and
    where it is. It teaches the decoder that place before there is a language model, and later tells the projector
    what a good embedding is (see cotrain.py).
Shapes: B scenes, T frames, N objects, K prompted frames, C SAM 2 width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.data.world.sampling import make_scene
from sa2va.model.losses import LossConfig, mask_losses, total_loss
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.tracker import Tracker
from sa2va.training.config import StageConfig
from sa2va.training.stages.scenes import ATTRIBUTE_SIZES, stack_scenes

UNKNOWN = -1  # an attribute that a code does not tell
CODE, POINT, BOX = 0, 1, 2  # kinds of prompt


class ObjectCode(nn.Module):
    """Embed what is known of an object as one SAM 2 prompt token."""

    def __init__(self, out_dim: int, width: int = 192, num_frequencies: int = 5) -> None:
        super().__init__()
        self.attributes = nn.ModuleList(nn.Embedding(size + 1, width) for size in ATTRIBUTE_SIZES)
        frequencies = math.pi * 2.0 ** torch.arange(num_frequencies)
        self.frequencies = nn.Buffer(frequencies, persistent=False)
        self.place = nn.Linear(4 * 2 * num_frequencies + 1, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, out_dim))

    def forward(self, attributes: Tensor, boxes: Tensor, placed: Tensor) -> Tensor:
        """Return (N, C) codes.

        Args:
            attributes: (N, 4) long, UNKNOWN where not told.
            boxes: (N, 4) centre x, y, width, height, 0..1.
            placed: (N,) bool, whether the box is told.
        """
        angles = (boxes[..., None] * self.frequencies).flatten(1)  # (N, 4 * frequencies)
        place = torch.cat([angles.sin(), angles.cos(), torch.ones_like(angles[:, :1])], dim=1) * placed[:, None]
        told = [table(attributes[:, i] + 1) for i, table in enumerate(self.attributes)]
        return self.mlp(torch.stack(told).sum(0) + self.place(place))


@dataclass(frozen=True)
class PromptBatch:
    """Frames of B scenes and N prompted objects."""

    sam_pixel_values: Tensor  # (B*T, 3, S, S)
    scene_index: Tensor  # (N,)
    kinds: Tensor  # (N,) CODE, POINT or BOX
    attributes: Tensor  # (N, 4) long, as told by a code
    boxes: Tensor  # (N, T, 4) as told, 0..1
    placed: Tensor  # (N,) bool
    points: Tensor  # (N, 2) px of the SAM 2 input, on the first frame
    targets: Tensor  # (N, T, S, S) bool


@dataclass(frozen=True)
class PromptSource:
    """Build the batch of a step: `num_objects` of the scenes' objects, each with one prompt."""

    processor: Processor
    seed: int
    batch_size: int
    num_objects: int
    num_frames: int  # T; 1 for pictures
    first_index: int = 0  # of the scenes, so that stages do not repeat each other's

    def __call__(self, step: int) -> PromptBatch:
        rng = np.random.default_rng([self.seed, step, self.num_frames])
        first = self.first_index + step * self.batch_size
        moving = self.num_frames > 1
        scenes = [make_scene(self.seed, "train", first + i, moving=moving) for i in range(self.batch_size)]
        clip = 16 if moving else 1
        begin = int(rng.integers(0, clip - self.num_frames + 1)) if moving else 0
        batch = stack_scenes(scenes, clip, range(begin, begin + self.num_frames))
        seen = torch.nonzero(batch.masks[:, 0].flatten(1).sum(1) >= 24)[:, 0].numpy()  # a prompt needs a visible part
        rows = torch.from_numpy(rng.permutation(seen)[: self.num_objects])
        kinds = torch.from_numpy(rng.choice(3, len(rows), p=[0.6, 0.2, 0.2]))
        told = torch.from_numpy(rng.random((len(rows), len(ATTRIBUTE_SIZES))) < rng.random((len(rows), 1)))
        attributes = torch.where(told, batch.attributes[rows], UNKNOWN)
        placed = torch.from_numpy(rng.random(len(rows)) < 0.5)
        for index, row in enumerate(rows.tolist()):
            placed[index] |= bool(self._rivals(batch.attributes, batch.scene_index, row, told[index]).any())
        return PromptBatch(
            sam_pixel_values=self.processor.sam_pixel_values(batch.frames),
            scene_index=batch.scene_index[rows],
            kinds=kinds,
            attributes=attributes,
            boxes=batch.boxes[rows] + torch.from_numpy(rng.normal(0, 0.01, (len(rows), 1, 4))).float(),
            placed=placed,
            points=torch.stack([self._point(batch.masks[row, 0], rng) for row in rows.tolist()]),
            targets=batch.masks[rows],
        )

    @staticmethod
    def _rivals(attributes: Tensor, owner: Tensor, row: int, told: Tensor) -> Tensor:
        """Other objects of the scene that share everything that is told, so that the place is needed."""
        same = ((attributes == attributes[row]) | ~told).all(1) & (owner == owner[row])
        same[row] = False
        return same

    @staticmethod
    def _point(mask: Tensor, rng: np.random.Generator) -> Tensor:
        places = torch.nonzero(mask)
        y, x = places[int(rng.integers(len(places)))].tolist()
        return torch.tensor([x, y], dtype=torch.float32)


class MaskStage:
    """Stage of the training loop; optimises all of SAM 2 and the object code.

    With one frame it trains prompts on pictures. With more it trains the memory: the first frame, and half of the
    time one more, is prompted by a code, the others are tracked; the image encoder rests.
    """

    def __init__(
        self, config: StageConfig, model: Sa2VA, processor: Processor, code: ObjectCode, num_frames: int, num_objects: int
    ) -> None:
        self.config = config
        self.sam2, self.code, self.num_frames = model.sam2, code, num_frames
        self._module = nn.ModuleDict({"sam2": model.sam2, "code": code})
        self._loss = LossConfig()
        offset = 0 if num_frames == 1 else 10_000_000
        self.batch = PromptSource(processor, config.seed, config.batch_size, num_objects, num_frames, offset)

    def module(self) -> nn.Module:
        return self._module

    def parameters(self) -> Iterator[nn.Parameter]:
        encoder = {id(p) for p in self.sam2.native.vision_encoder.parameters()} if self.num_frames > 1 else set()
        return (p for p in self._module.parameters() if id(p) not in encoder)

    def losses(self, batch: PromptBatch) -> dict[str, Tensor]:
        with torch.set_grad_enabled(self.num_frames == 1):
            frames = self.sam2.encode_frames(batch.sam_pixel_values)
        if self.num_frames > 1:
            return self._tracking_losses(batch, frames)
        sums: dict[str, Tensor] = {}
        for kind in (CODE, POINT, BOX):
            rows = torch.nonzero(batch.kinds == kind)[:, 0]
            if len(rows) == 0:
                continue
            seen = frames.select(batch.scene_index[rows])
            output = self.sam2.decode(self.sam2.without_memory(seen.embeds), seen.high_res, self._prompt(batch, rows, 0))
            terms = mask_losses(output, batch.targets[rows, 0], self._loss)
            share = len(rows) / len(batch.kinds)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros(())) + share * value
        return sums | {"total": total_loss(sums, self._loss)}

    def _prompt(self, batch: PromptBatch, rows: Tensor, frame: int) -> Tensor:
        """Build the sparse prompt of some objects that share a kind: (n, Q, C)."""
        kind = int(batch.kinds[rows[0]])
        encoder = self.sam2.native.prompt_encoder
        if kind == POINT:
            labels = torch.ones(len(rows), 1, 1, dtype=torch.long)
            return encoder._embed_points(batch.points[rows, None, None], labels, pad=True)[:, 0]
        if kind == BOX:
            x, y, width, height = (batch.boxes[rows, frame] * self.sam2.size).unbind(-1)
            corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
            return encoder._embed_boxes(corners[:, None])[:, 0]
        code = self.code(batch.attributes[rows], batch.boxes[rows, frame], batch.placed[rows])
        return self.sam2.language_prompt(code, len(rows))

    def _tracking_losses(self, batch: PromptBatch, frames: FrameFeatures) -> dict[str, Tensor]:
        """Prompt the first frame of each clip by code and track its objects through the others."""
        num_frames = self.num_frames
        code = self.code(batch.attributes, batch.boxes[:, 0], batch.placed)
        tracker = Tracker(self.sam2)
        outputs: list[MaskOutput] = []
        for t in range(num_frames):
            seen = frames.select(batch.scene_index * num_frames + t)
            if t == 0:
                output = decode_prompted(self.sam2, seen, code)
                tracker.prompt(0, seen, output)
            else:
                output = tracker.step(t, seen)
            outputs.append(output)
        terms = mask_losses(MaskOutput.concatenate(outputs), batch.targets.transpose(0, 1).flatten(0, 1), self._loss)
        return terms | {"total": total_loss(terms, self._loss)}


def decode_prompted(sam2: Sam2, seen: FrameFeatures, prompts: Tensor) -> MaskOutput:
    """Decode (n, C) prompt embeddings on the frames of the same rows."""
    sparse = sam2.language_prompt(prompts, len(prompts))
    return sam2.decode(sam2.without_memory(seen.embeds), seen.high_res, sparse)

