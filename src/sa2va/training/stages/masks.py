"""Pre-train SAM 2's prompts and decoder: points, boxes and object codes on pictures.

Flow: drawn scenes -> image encoder -> prompts -> decoder -> mask losses.
Source: the paper's SAM 2 comes pre-trained on points and boxes; ours gets the same here. The object code
    is our own addition: one token, in the place of the [SEG] embedding, made from what an object looks like and
    where it is. It teaches the decoder that place before there is a language model, and later tells the projector
    what a good embedding is (see cotrain.py).
Shapes: B scenes, N objects, S SAM 2 input side, H W picture, C SAM 2 width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.data.world.sampling import make_scene
from sa2va.model.losses import LossConfig, mask_losses, total_loss
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import StageConfig
from sa2va.training.stages.scenes import ATTRIBUTE_SIZES, stack_scenes

UNKNOWN = -1  # an attribute that a code does not tell
CODE, POINT, BOX = 0, 1, 2  # kinds of prompt
FIRST_SCENE = 10_000_000  # other scenes than those the encoders have seen


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
    """Pictures of B scenes and N prompted objects."""

    sam_pixel_values: Tensor  # (B, 3, S, S)
    scene_index: Tensor  # (N,)
    kinds: Tensor  # (N,) CODE, POINT or BOX
    attributes: Tensor  # (N, 4) long, as told by a code
    boxes: Tensor  # (N, 4) as told: centre x, y, width, height, 0..1
    placed: Tensor  # (N,) bool
    points: Tensor  # (N, 2) px of the SAM 2 input
    targets: Tensor  # (N, H, W) bool


@dataclass(frozen=True)
class PromptSource:
    """Build the batch of a step: `num_objects` of the scenes' objects, each with one prompt."""

    processor: Processor
    seed: int
    batch_size: int
    num_objects: int

    def __call__(self, step: int) -> PromptBatch:
        rng = np.random.default_rng([self.seed, step])
        first = FIRST_SCENE + step * self.batch_size
        batch = stack_scenes([make_scene(self.seed, "train", first + i) for i in range(self.batch_size)])
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
            boxes=batch.boxes[rows, 0] + torch.from_numpy(rng.normal(0, 0.01, (len(rows), 4))).float(),
            placed=placed,
            points=torch.stack([self._point(batch.masks[row, 0], rng) for row in rows.tolist()])
            * (self.processor.sam_size / batch.masks.shape[-1]),
            targets=batch.masks[rows, 0],
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
    """Stage of the training loop; optimises SAM 2's prompts and decoder and the object code; its encoder, slowly."""

    def __init__(
        self, config: StageConfig, model: Sa2VA, processor: Processor, code: ObjectCode, num_objects: int
    ) -> None:
        self.config = config
        self.sam2, self.code = model.sam2, code
        self._module = nn.ModuleDict({"sam2": model.sam2, "code": code})
        self._loss = LossConfig()
        self.batch = PromptSource(processor, config.seed, config.batch_size, num_objects)

    def module(self) -> nn.Module:
        return self._module

    def parameters(self) -> Iterator[dict[str, Any]]:
        encoder = list(self.sam2.native.vision_encoder.parameters())
        rested = {id(p) for p in encoder}
        yield {"params": [p for p in self._module.parameters() if id(p) not in rested]}
        yield {"params": encoder, "lr_scale": 0.3}

    def losses(self, batch: PromptBatch) -> dict[str, Tensor]:
        frames = self.sam2.encode_frames(batch.sam_pixel_values)
        sums: dict[str, Tensor] = {}
        for kind in (CODE, POINT, BOX):
            rows = torch.nonzero(batch.kinds == kind)[:, 0]
            if len(rows) == 0:
                continue
            seen = frames.select(batch.scene_index[rows])
            output = self.sam2.decode(self.sam2.without_memory(seen.embeds), seen.high_res, self._prompt(batch, rows))
            terms = mask_losses(output, batch.targets[rows], self._loss)
            share = len(rows) / len(batch.kinds)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros(())) + share * value
        return sums | {"total": total_loss(sums, self._loss)}

    def _prompt(self, batch: PromptBatch, rows: Tensor) -> Tensor:
        """Build the sparse prompt of some objects that share a kind: (n, Q, C)."""
        kind = int(batch.kinds[rows[0]])
        encoder = self.sam2.native.prompt_encoder
        if kind == POINT:
            labels = torch.ones(len(rows), 1, 1, dtype=torch.long)
            return encoder._embed_points(batch.points[rows, None, None], labels, pad=True)[:, 0]
        if kind == BOX:
            x, y, width, height = (batch.boxes[rows] * self.sam2.size).unbind(-1)
            corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
            return encoder._embed_boxes(corners[:, None])[:, 0]
        code = self.code(batch.attributes[rows], batch.boxes[rows], batch.placed[rows])
        return self.sam2.language_prompt(code, len(rows))
