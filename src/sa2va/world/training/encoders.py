"""Pretrain the two image encoders on patch labels: attributes, box and outline of the object under each patch.

Flow: synthetic scenes -> encoder -> linear heads -> attributes, box and outline of the object under each patch;
    vision tower -> projector -> visual tokens -> attribute words (patch_labels.py).
Source: the paper starts from pretrained encoders. Dense labels train ours at a fraction of the cost of captions and
    masks.
Shapes: B scenes, N objects, G patches a side, g visual tokens a side, D encoder width, h side of SAM 2's finest grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.losses import LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import Sam2
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.types import Frames
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene
from sa2va.world.training.patch_labels import (
    ATTRIBUTE_WEIGHTS,
    LEAST_COVER,
    UNKNOWN_LABEL,
    attribute_words,
    center_loss,
    center_word,
    label_loss,
    mark_centers,
    word_losses,
)
from sa2va.world.training.recoloring import recolor
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, NUM_BACKGROUNDS, SceneBatch, render_scene

NOTHING = -100  # owner of a background patch
COLOR = list(ATTRIBUTE_WEIGHTS).index("color")
SILHOUETTE_SIDE = 8


@dataclass(frozen=True)
class PatchBatch:
    """Batch of pixels and patch labels of B scenes."""

    pixel_values: Tensor  # (B, 3, s, s)
    attributes: Tensor  # (N, 4) long, attributes of all objects of the batch
    offsets: Tensor  # (B, G*G, 4) offset from the patch center to the object's box: x0, y0, x1, y1, 0..1 of the picture
    owners: Tensor  # (B, G*G) long, index (of N) of the object under a patch, NOTHING on the background
    token_owners: Tensor  # (B, g*g) the same for visual tokens
    token_marks: Tensor  # (B, g*g) 1 at cells with the center of an object, else 0
    silhouettes: Tensor  # (N, cells) share of each cell of an object's box that the object covers
    fine: Tensor  # (B, 2, h, h) share of object and of outline per cell, for SAM 2
    backgrounds: Tensor  # (B,)


class PatchHeads(nn.Module):
    """Linear heads for patch labels, discarded after the stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attributes = nn.ModuleList([nn.Linear(width, size) for size in ATTRIBUTE_SIZES])
        self.covered = nn.Linear(width, 1)
        self.offsets = nn.Linear(width, 4)
        self.silhouette = nn.Linear(width, SILHOUETTE_SIDE**2)
        self.background = nn.Linear(width, NUM_BACKGROUNDS)


@dataclass(frozen=True, kw_only=True)
class PatchConfig(StageConfig):
    """Settings of pretraining an image encoder on patch labels."""

    least_cover: float  # least share of a patch that an object must cover to be its label
    recolored: float = 0.6  # share of the pictures that are recolored with colors outside the vocabulary
    for_sam: bool = False  # True trains SAM 2's encoder, also on outlines; False trains the MLLM's


class PatchData:
    """Data of the stage: rendered pictures with patch labels."""

    def __init__(self, config: PatchConfig, processor: Processor, grid: int) -> None:
        self.config, self.processor, self.grid = config, processor, grid  # G
        # SAM 2 has no visual tokens; a grid of one cell is a placeholder.
        self.token_grid = 1 if config.for_sam else int(processor.config.tokens_per_tile**0.5)  # g

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        return [(step, step * self.config.batch_size + i) for i in range(self.config.batch_size)]

    def __getitem__(self, key: Key) -> PatchBatch:
        return self._label(make_scene(self.config.seed, "train", int(key[1])), int(key[1]))

    def collate(self, items: Sequence[PatchBatch]) -> PatchBatch:
        counts = torch.tensor([0, *(len(item.attributes) for item in items)]).cumsum(0)[:-1].tolist()

        def own(name: str) -> list[Tensor]:
            """Offset the owners of each picture's patches to index the objects of the batch."""
            owners = [getattr(item, name) for item in items]
            return [torch.where(o == NOTHING, o, o + first) for o, first in zip(owners, counts, strict=True)]

        joined = {f.name: torch.cat([getattr(item, f.name) for item in items]) for f in fields(PatchBatch)}
        return PatchBatch(**joined | {name: torch.cat(own(name)) for name in ("owners", "token_owners")})

    def _label(self, scene: Scene, index: int) -> PatchBatch:
        """Render and label one picture: B = 1."""
        grid = self.grid
        batch = self._recolor(render_scene(scene), scene, index)
        owners = own_cells(batch, 1, grid, self.config.least_cover)
        steps = (torch.arange(grid) + 0.5) / grid
        centers = torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)], dim=-1)  # (G*G, 2) xy
        x, y, width, height = batch.boxes[:, 0].unbind(-1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)  # (N, 4)
        offsets = corners[owners.clamp(min=0)] - centers.repeat(1, 2)  # (B, G*G, 4)
        return PatchBatch(
            pixel_values=self._pixels(batch.frames),
            attributes=batch.attributes,
            offsets=offsets,
            owners=owners,
            token_owners=own_cells(batch, 1, self.token_grid, LEAST_COVER),
            token_marks=mark_centers(batch.boxes[:, 0], batch.scene_index, 1, self.token_grid),
            silhouettes=torch.stack([silhouette(mask) for mask in batch.masks[:, 0]]),
            fine=self._fine(batch) if self.config.for_sam else torch.zeros(0),
            backgrounds=batch.backgrounds,
        )

    def _recolor(self, batch: SceneBatch, scene: Scene, index: int) -> SceneBatch:
        """Recolor some of the pictures with colors outside the vocabulary."""
        rng = np.random.default_rng([self.config.seed, index])
        painted = recolor(batch.frames, scene, rng) if rng.random() < self.config.recolored else None
        if painted is None:
            return batch
        attributes = batch.attributes.clone()
        attributes[:, COLOR] = UNKNOWN_LABEL
        return replace(batch, frames=painted, attributes=attributes)

    def _pixels(self, frames: Frames) -> Tensor:
        if self.config.for_sam:
            return self.processor.sam_pixel_values(frames)
        return torch.cat([picture.pixel_values for picture in self.processor.read_pictures(frames)])

    def _fine(self, batch: SceneBatch) -> Tensor:
        """Return the shares of object and of outline in each cell: (B, 2, h, h)."""
        masks = batch.masks[:, 0].float()  # (N, S, S)
        outline = masks - 1 + F.max_pool2d(1 - masks, 5, stride=1, padding=2)
        both = torch.stack([masks, outline], dim=1)
        size = self.processor.sam_size // 4
        fine = torch.zeros(1, 2, size, size)
        return fine.index_add_(0, batch.scene_index, F.adaptive_avg_pool2d(both, size)).clamp_(0, 1)


def own_cells(batch: SceneBatch, num_scenes: int, grid: int, least_cover: float) -> Tensor:
    """Return the object that covers most of each cell, if above `least_cover`: (B, grid * grid) long, else NOTHING."""
    cover = F.adaptive_avg_pool2d(batch.masks[:, 0].float(), grid).flatten(1)  # (N, cells)
    owners = torch.full((num_scenes, grid * grid), NOTHING)
    best = torch.full((num_scenes, grid * grid), least_cover)
    for row, scene in enumerate(batch.scene_index.tolist()):
        mine = cover[row] > best[scene]
        best[scene, mine] = cover[row, mine]
        owners[scene, mine] = row
    return owners


def silhouette(mask: Tensor) -> Tensor:
    """Crop a visible mask (S, S) to its box and resize it to a small square: (cells,) in 0..1."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()
    return F.adaptive_avg_pool2d(crop[None], SILHOUETTE_SIDE).flatten()


class PatchModule(nn.Module):
    """Base of the training modules: an image encoder with heads for patch labels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = PatchHeads(width)

    def patch_losses(self, states: Tensor, batch: PatchBatch) -> dict[str, LossTerm]:
        """Compute the losses of the heads on patch states (B, G*G, D)."""
        heads = self.heads
        there = batch.owners != NOTHING
        owners, on_object = batch.owners[there], states[there]
        covered = heads.covered(states)[..., 0].float()
        terms = {"covered": LossTerm.of(F.binary_cross_entropy_with_logits(covered, there.float(), reduction="none"))}
        for index, (name, weight) in enumerate(ATTRIBUTE_WEIGHTS.items()):
            terms[name] = label_loss(heads.attributes[index](on_object), batch.attributes[owners, index], weight)
        offsets = heads.offsets(on_object).float()
        terms["offset"] = LossTerm.of(F.smooth_l1_loss(offsets, batch.offsets[there], beta=0.1, reduction="none"), 2.0)
        # The silhouette has more information per patch than the shape's name, and determines the name.
        drawn = heads.silhouette(on_object).float()
        outline = F.binary_cross_entropy_with_logits(drawn, batch.silhouettes[owners], reduction="none")
        terms["silhouette"] = LossTerm.of(outline, 4.0)
        background = heads.background(states.mean(1)).float()
        terms["background"] = LossTerm.of(F.cross_entropy(background, batch.backgrounds, reduction="none"), 0.2)
        return terms


class VisionModule(PatchModule):
    """Training module of the MLLM's vision tower and projector."""

    def __init__(self, model: Sa2VA, processor: Processor) -> None:
        native: Any = model.mllm.native
        super().__init__(native.model.vision_tower.config.hidden_size)
        self.native = native
        self.attribute_words = attribute_words(processor.tokenizer)
        self.center_word = center_word(processor.tokenizer)

    def forward(self, batch: PatchBatch) -> dict[str, LossTerm]:
        seen = self.native.model.get_image_features(pixel_values=batch.pixel_values, return_dict=True)
        terms = self.patch_losses(seen.last_hidden_state[:, 1:], batch)  # (B, G*G, D)
        there = batch.token_owners != NOTHING
        embeddings = self.native.get_input_embeddings().weight.detach()
        labels = batch.attributes[batch.token_owners[there]]
        terms |= word_losses(seen.pooler_output[there], labels, self.attribute_words, embeddings)
        terms["center"] = center_loss(seen.pooler_output, batch.token_marks, embeddings[self.center_word])
        return terms


class SamVisionModule(PatchModule):
    """Training module of SAM 2's image encoder; its finest grid also predicts object and outline."""

    def __init__(self, sam2: Sam2) -> None:
        super().__init__(sam2.width)
        self.sam2 = sam2
        self.fine = nn.Conv2d(sam2.native.mask_decoder.conv_s0.out_channels, 2, 1)

    def forward(self, batch: PatchBatch) -> dict[str, LossTerm]:
        features = self.sam2.encode_frames(batch.pixel_values)
        terms = self.patch_losses(features.embeds.flatten(2).transpose(1, 2), batch)
        fine = self.fine(features.high_res[0]).float()  # (B, 2, h, h): object, outline
        terms["fine"] = LossTerm.of(F.binary_cross_entropy_with_logits(fine, batch.fine, reduction="none"), 2.0)
        return terms


@dataclass(frozen=True, kw_only=True)
class VisionConfig(PatchConfig):
    """Settings of pretraining the MLLM's vision tower."""

    least_cover: float = 0.4

    def build(self, context: RunContext) -> "PatchStage":
        module = VisionModule(context.model, context.processor)
        tower: Any = context.model.mllm.vision_tower
        grid = context.processor.config.tile_size // tower.config.patch_size[0]
        trained = [tower, context.model.mllm.vision_projector]
        return PatchStage(self, module, PatchData(self, context.processor, grid), trained)


@dataclass(frozen=True, kw_only=True)
class SamVisionConfig(PatchConfig):
    """Settings of pretraining SAM 2's image encoder."""

    least_cover: float = 0.2
    for_sam: bool = True

    def build(self, context: RunContext) -> "PatchStage":
        module, native = SamVisionModule(context.model.sam2), context.model.sam2.native
        data = PatchData(self, context.processor, context.processor.sam_size // 16)
        return PatchStage(self, module, data, [native.vision_encoder, native.mask_decoder.conv_s0, module.fine])


class PatchStage:
    """Stage that trains an image encoder and its heads; everything else is frozen."""

    def __init__(self, config: PatchConfig, module: PatchModule, data: PatchData, trained: Sequence[nn.Module]) -> None:
        self.config, self.module, self.data = config, module, data
        module.requires_grad_(False)
        for part in (*trained, module.heads):
            part.requires_grad_(True)

    def parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)
