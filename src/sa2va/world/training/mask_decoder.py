"""Pretrain SAM 2's prompt encoder and mask decoder: points, boxes and object codes on pictures.

Flow: synthetic scenes -> image encoder -> prompts -> decoder -> mask losses.
Source: the paper starts from a SAM 2 pretrained on points and boxes, which this stage replaces. The object code
    is our own addition: one token in place of the [SEG] embedding, computed from the attributes and box of an object.
    It trains the decoder on that token before the language model exists, and is later the target that prompt
    embeddings are aligned with (see cotrain.py).
Shapes: B scenes, N objects, S SAM 2 input side, H W picture, C SAM 2 width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.model.losses import LossConfig, LossTerm, mask_losses
from sa2va.model.mask_rows import row_seeds
from sa2va.model.processor import Processor
from sa2va.model.sam.sam2 import MaskOutput, Sam2
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, render_scene
from sa2va.world.training.tiny_losses import TINY_LOSSES

UNKNOWN = -1  # attribute withheld from a code
CODE, POINT, BOX = 0, 1, 2  # kinds of prompt


class ObjectCode(nn.Module):
    """Embedding of an object's known attributes and box as one SAM 2 prompt token."""

    def __init__(self, out_dim: int, width: int = 192) -> None:
        super().__init__()
        self.attributes = nn.ModuleList(nn.Embedding(size + 1, width) for size in ATTRIBUTE_SIZES)
        self.place = nn.Linear(3 * out_dim + 4, width)
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, out_dim))
        self.unplaced = nn.Parameter(torch.zeros(out_dim))

    def forward(self, sam2: Sam2, attributes: Tensor, boxes: Tensor, placed: Tensor) -> Tensor:
        """Return (N, C) codes.

        Args:
            sam2: embeds points; the code is a residual on the embedding of the object's center.
            attributes: (N, 4) long, UNKNOWN if withheld.
            boxes: (N, 4) center x, y, width, height, 0..1.
            placed: (N,) bool, whether the box is given.
        """
        center, half = boxes[:, :2], boxes[:, 2:] / 2
        places = sam2.embed_places(torch.stack([center, center - half, center + half], dim=1))  # (N, 3, C)
        place = self.place(torch.cat([places.flatten(1), boxes], dim=1)) * placed[:, None]
        given = [table(attributes[:, i] + 1) for i, table in enumerate(self.attributes)]
        return torch.where(placed[:, None], places[:, 0], self.unplaced) + self.mlp(torch.stack(given).sum(0) + place)


@dataclass(frozen=True)
class PromptBatch:
    """Batch of B pictures with N prompted objects."""

    sam_pixel_values: Tensor  # (B, 3, S, S)
    scene_index: Tensor  # (N,)
    kinds: Tensor  # (N,) CODE, POINT or BOX
    attributes: Tensor  # (N, 4) long, input of a code
    boxes: Tensor  # (N, 4) with noise: center x, y, width, height, 0..1
    placed: Tensor  # (N,) bool, whether a code includes the box
    points: Tensor  # (N, 2) px of the SAM 2 input
    targets: Tensor  # (N, H, W) bool
    seeds: Tensor  # (N,) long, seeds of the random points of each mask


@dataclass(frozen=True, kw_only=True)
class MaskDecoderConfig(StageConfig):
    """Settings of pretraining SAM 2's prompt encoder and mask decoder."""

    losses: LossConfig = TINY_LOSSES
    objects_per_scene: int = 4  # maximum number of prompted objects, with one prompt each
    kind_shares: tuple[float, float, float] = (0.6, 0.2, 0.2)  # shares of codes, points and boxes
    placed_share: float = 0.5  # share of codes with a box, among those whose attributes identify the object
    box_noise: float = 0.01  # standard deviation, relative to the picture
    least_pixels: int = 24  # least visible area of a prompted object
    first_scene: int = 10_000_000  # index of the first scene; the encoders are trained on other scenes

    def build(self, context: RunContext) -> "MaskDecoderStage":
        return MaskDecoderStage(self, context)


class PromptData:
    """Data of the stage: rendered pictures with prompts for some of their objects."""

    def __init__(self, config: MaskDecoderConfig, processor: Processor) -> None:
        self.config, self.processor = config, processor

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        first = self.config.first_scene + step * self.config.batch_size
        return [(step, first + i) for i in range(self.config.batch_size)]

    def __getitem__(self, key: Key) -> PromptBatch:
        config, index = self.config, int(key[1])
        rng = np.random.default_rng([config.seed, index])
        scene = render_scene(make_scene(config.seed, "train", index))
        seen = torch.nonzero(scene.masks[:, 0].flatten(1).sum(1) >= config.least_pixels)[:, 0].numpy()
        rows = torch.from_numpy(rng.permutation(seen)[: config.objects_per_scene])
        number = len(rows)
        given = torch.from_numpy(rng.random((number, len(ATTRIBUTE_SIZES))) < rng.random((number, 1)))
        placed = torch.from_numpy(rng.random(number) < config.placed_share)
        for n, row in enumerate(rows.tolist()):
            placed[n] |= _is_ambiguous(scene.attributes, row, given[n])
        points = torch.zeros(number, 2)
        for n, row in enumerate(rows.tolist()):
            points[n] = _draw_point(scene.masks[row, 0], rng)
        return PromptBatch(
            sam_pixel_values=self.processor.sam_pixel_values(scene.frames),
            scene_index=torch.zeros(number, dtype=torch.long),
            kinds=torch.from_numpy(rng.choice(3, number, p=list(config.kind_shares))),
            attributes=torch.where(given, scene.attributes[rows], UNKNOWN),
            boxes=scene.boxes[rows, 0] + torch.from_numpy(rng.normal(0, config.box_noise, (number, 4))).float(),
            placed=placed,
            points=points * (self.processor.sam_size / scene.masks.shape[-1]),
            targets=scene.masks[rows, 0],
            seeds=row_seeds(index, torch.arange(number), torch.zeros(number, dtype=torch.long)),
        )

    def collate(self, items: Sequence[PromptBatch]) -> PromptBatch:
        joined = {f.name: torch.cat([getattr(item, f.name) for item in items]) for f in fields(PromptBatch)}
        owners = [torch.full_like(item.scene_index, index) for index, item in enumerate(items)]
        return PromptBatch(**joined | {"scene_index": torch.cat(owners)})


def _is_ambiguous(attributes: Tensor, row: int, given: Tensor) -> bool:
    """Tell whether another object shares all given attributes, so that the code needs the box."""
    return int(((attributes == attributes[row]) | ~given).all(1).sum()) > 1


def _draw_point(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Sample a pixel of a mask: (2,) xy."""
    pixels = torch.nonzero(mask)
    return pixels[int(rng.integers(len(pixels)))].flip(0).float()


class MaskDecoderModule(nn.Module):
    """Training module: SAM 2 with the object code."""

    def __init__(self, sam2: Sam2, code: ObjectCode, losses: LossConfig) -> None:
        super().__init__()
        self.sam2, self.code, self.losses = sam2, code, losses

    def forward(self, batch: PromptBatch) -> dict[str, LossTerm]:
        with torch.no_grad():
            maps = self.sam2.encode_maps(batch.sam_pixel_values)
        frames = self.sam2.project_maps(maps)
        kinds = [torch.nonzero(batch.kinds == kind)[:, 0] for kind in (CODE, POINT, BOX)]
        outputs = []
        for rows in kinds:
            if len(rows):
                seen = frames.select(batch.scene_index[rows])
                prompt = self._prompt(batch, rows)
                outputs.append(self.sam2.decode(self.sam2.without_memory(seen.embeds), seen.high_res, prompt))
        order = torch.cat(kinds)
        return mask_losses(MaskOutput.concatenate(outputs), batch.targets[order], self.losses, batch.seeds[order])

    def _prompt(self, batch: PromptBatch, rows: Tensor) -> Tensor:
        """Build the sparse prompt of objects with prompts of one kind: (n, Q, C)."""
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


class MaskDecoderStage:
    """Stage that trains SAM 2, except its image encoder, and the object code."""

    def __init__(self, config: MaskDecoderConfig, context: RunContext) -> None:
        code = context.kept.setdefault("object_code", ObjectCode(context.model.sam2.width))
        assert isinstance(code, ObjectCode)
        self.config = config
        self.module = MaskDecoderModule(context.model.sam2, code, config.losses)
        self.data = PromptData(config, context.processor)
        self.module.requires_grad_(True)
        context.model.sam2.native.vision_encoder.requires_grad_(False)

    def parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)
