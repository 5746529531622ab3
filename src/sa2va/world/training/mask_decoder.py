"""Pre-train SAM 2's prompts and decoder: points, boxes and object codes on pictures.

Flow: drawn scenes -> image encoder -> prompts -> decoder -> mask losses.
Source: the paper's SAM 2 comes pre-trained on points and boxes; ours gets the same here. The object code
    is our own addition: one token, in the place of the [SEG] embedding, made from what an object looks like and
    where it is. It teaches the decoder that place before there is a language model, and later tells the projector
    what a good embedding is (see cotrain.py).
Shapes: B scenes, N objects, S SAM 2 input side, H W picture, C SAM 2 width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.model.losses import LossConfig, mask_losses, total_loss
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import Sam2
from sa2va.training.stage import StageConfig
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, stack_scenes

UNKNOWN = -1  # an attribute that a code does not tell
CODE, POINT, BOX = 0, 1, 2  # kinds of prompt
FIRST_SCENE = 10_000_000  # other scenes than those the encoders have seen


class ObjectCode(nn.Module):
    """Embed what is known of an object as one SAM 2 prompt token."""

    def __init__(self, out_dim: int, width: int = 192) -> None:
        super().__init__()
        self.attributes = nn.ModuleList(nn.Embedding(size + 1, width) for size in ATTRIBUTE_SIZES)
        self.place = nn.Linear(3 * out_dim + 4, width)
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, out_dim))
        self.unplaced = nn.Parameter(torch.zeros(out_dim))

    def forward(self, sam2: Sam2, attributes: Tensor, boxes: Tensor, placed: Tensor) -> Tensor:
        """Return (N, C) codes.

        Args:
            sam2: embeds places; the code begins as the embedding of the object's centre.
            attributes: (N, 4) long, UNKNOWN where not told.
            boxes: (N, 4) centre x, y, width, height, 0..1.
            placed: (N,) bool, whether the box is told.
        """
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        places = sam2.embed_places(torch.stack([centre, centre - half, centre + half], dim=1))  # (N, 3, C)
        place = self.place(torch.cat([places.flatten(1), boxes], dim=1)) * placed[:, None]
        told = [table(attributes[:, i] + 1) for i, table in enumerate(self.attributes)]
        return torch.where(placed[:, None], places[:, 0], self.unplaced) + self.mlp(torch.stack(told).sum(0) + place)


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
    """Stage of the training loop; optimises SAM 2's prompts and decoder and the object code; its encoder rests."""

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

    def parameters(self) -> Iterator[nn.Parameter]:
        rested = {id(p) for p in self.sam2.native.vision_encoder.parameters()}
        return (p for p in self._module.parameters() if id(p) not in rested)

    def losses(self, batch: PromptBatch) -> dict[str, Tensor]:
        with torch.no_grad():
            maps = self.sam2.encode_maps(batch.sam_pixel_values)
        frames = self.sam2.project_maps(maps)
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
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + share * value
        return sums | {"total": total_loss(sums, self._loss)}

    def _prompt(self, batch: PromptBatch, rows: Tensor) -> Tensor:
        """Build the sparse prompt of some objects that share a kind: (n, Q, C)."""
        kind = int(batch.kinds[rows[0]])
        encoder = self.sam2.native.prompt_encoder
        if kind == POINT:
            labels = torch.ones(len(rows), 1, 1, dtype=torch.long, device=rows.device)
            return encoder._embed_points(batch.points[rows, None, None], labels, pad=True)[:, 0]
        if kind == BOX:
            x, y, width, height = (batch.boxes[rows] * self.sam2.size).unbind(-1)
            corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
            return encoder._embed_boxes(corners[:, None])[:, 0]
        code = self.code(self.sam2, batch.attributes[rows], batch.boxes[rows], batch.placed[rows])
        return self.sam2.language_prompt(code, len(rows))
