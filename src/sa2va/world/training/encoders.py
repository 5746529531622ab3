"""Pre-train the two image encoders: every patch names the object it lies on, every visual token says so in words.

Flow: drawn scenes -> encoder -> linear heads -> attributes, box and outline of the object under each patch;
    vision tower -> projector -> visual tokens -> names.py.
Source: the paper's encoders come pre-trained; ours learn the world's objects densely, which is far cheaper than
    learning them through captions and masks.
Shapes: B scenes, N objects, G patches a side, g visual tokens a side, D encoder width, h side of SAM 2's finest grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.losses import average
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.stage import StageConfig
from sa2va.types import Frames
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene
from sa2va.world.training.patch_labels import (
    ATTRIBUTE_WEIGHTS,
    LEAST_COVER,
    UNKNOWN_LABEL,
    attribute_words,
    centre_loss,
    centre_word,
    label_loss,
    mark_centres,
    name_loss,
)
from sa2va.world.training.recoloring import repaint
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, NUM_BACKGROUNDS, SceneBatch, stack_scenes

NOTHING = -100  # owner of a patch on the background
COLOR = list(ATTRIBUTE_WEIGHTS).index("color")
REPAINTED = 0.6  # share of the pictures
SILHOUETTE_SIDE = 8


@dataclass(frozen=True)
class PatchBatch:
    """Pixels and patch labels of B scenes."""

    pixel_values: Tensor  # (B, 3, s, s)
    attributes: Tensor  # (N, 4) long, of all objects of the batch
    offsets: Tensor  # (B, G*G, 4) way from the patch to the object's box: x0, y0, x1, y1 in pictures
    owners: Tensor  # (B, G*G) long, which of the N objects a patch lies on, NOTHING on the background
    token_owners: Tensor  # (B, g*g) the same for visual tokens
    token_marks: Tensor  # (B, g*g) 1 where the middle of an object is
    silhouettes: Tensor  # (N, cells) share of each cell of the object's box that it covers
    fine: Tensor  # (B, 2, h, h) share of object and of outline, for SAM 2
    backgrounds: Tensor  # (B,)


class PatchHeads(nn.Module):
    """Linear read-outs, thrown away after this stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attributes = nn.ModuleList([nn.Linear(width, size) for size in ATTRIBUTE_SIZES])
        self.covered = nn.Linear(width, 1)
        self.offsets = nn.Linear(width, 4)
        self.silhouette = nn.Linear(width, SILHOUETTE_SIDE**2)
        self.background = nn.Linear(width, NUM_BACKGROUNDS)


@dataclass(frozen=True)
class PatchSource:
    """Build the batch of a step; picklable, so that a worker process can run it."""

    processor: Processor
    seed: int
    batch_size: int
    grid: int  # G
    least_cover: float  # of a patch, for it to belong to an object
    token_grid: int  # g
    for_sam: bool = False  # prepare pixels for SAM 2, and the targets of its finest grid

    def __call__(self, step: int) -> PatchBatch:
        grid = self.grid
        first = step * self.batch_size
        scenes = [make_scene(self.seed, "train", first + i) for i in range(self.batch_size)]
        batch = self._repaint(stack_scenes(scenes), scenes, step)
        owners = own_cells(batch, self.batch_size, grid, self.least_cover)
        steps = (torch.arange(grid) + 0.5) / grid
        centres = torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)], dim=-1)  # (G*G, 2) xy
        x, y, width, height = batch.boxes[:, 0].unbind(-1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)  # (N, 4)
        offsets = corners[owners.clamp(min=0)] - centres.repeat(1, 2)  # (B, G*G, 4)
        return PatchBatch(
            pixel_values=self._pixels(batch.frames),
            attributes=batch.attributes,
            offsets=offsets,
            owners=owners,
            token_owners=own_cells(batch, self.batch_size, self.token_grid, LEAST_COVER),
            token_marks=mark_centres(batch.boxes[:, 0], batch.scene_index, self.batch_size, self.token_grid),
            silhouettes=torch.stack([silhouette(mask) for mask in batch.masks[:, 0]]),
            fine=self._fine(batch) if self.for_sam else torch.zeros(0),
            backgrounds=batch.backgrounds,
        )

    def _repaint(self, batch: SceneBatch, scenes: Sequence[Scene], step: int) -> SceneBatch:
        """Paint some of the pictures in colours that have no name."""
        rng = np.random.default_rng([self.seed, step])
        frames, attributes = batch.frames.copy(), batch.attributes.clone()
        for row, scene in enumerate(scenes):
            painted = repaint(frames[row : row + 1], scene, rng) if rng.random() < REPAINTED else None
            if painted is not None:
                frames[row : row + 1] = painted
                attributes[batch.scene_index == row, COLOR] = UNKNOWN_LABEL
        return replace(batch, frames=frames, attributes=attributes)

    def _pixels(self, frames: Frames) -> Tensor:
        if self.for_sam:
            return self.processor.sam_pixel_values(frames)
        return torch.cat([picture.pixel_values for picture in self.processor.read_pictures(frames)])

    def _fine(self, batch: SceneBatch) -> Tensor:
        """Share of each cell that is object, and that is outline: (B, 2, h, h)."""
        masks = batch.masks[:, 0].float()  # (N, S, S)
        outline = masks - 1 + F.max_pool2d(1 - masks, 5, stride=1, padding=2)
        both = torch.stack([masks, outline], dim=1)
        size = self.processor.sam_size // 4
        fine = torch.zeros(self.batch_size, 2, size, size)
        return fine.index_add_(0, batch.scene_index, F.adaptive_avg_pool2d(both, size)).clamp_(0, 1)


def own_cells(batch: SceneBatch, num_scenes: int, grid: int, least_cover: float) -> Tensor:
    """Say which object covers most of each cell, if any covers enough: (B, grid * grid) long, NOTHING elsewhere."""
    cover = F.adaptive_avg_pool2d(batch.masks[:, 0].float(), grid).flatten(1)  # (N, cells)
    owners = torch.full((num_scenes, grid * grid), NOTHING)
    best = torch.full((num_scenes, grid * grid), least_cover)
    for row, scene in enumerate(batch.scene_index.tolist()):
        mine = cover[row] > best[scene]
        best[scene, mine] = cover[row, mine]
        owners[scene, mine] = row
    return owners


def silhouette(mask: Tensor) -> Tensor:
    """Squeeze a visible mask (S, S) from its box to a small square: (cells,) in 0..1."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()
    return F.adaptive_avg_pool2d(crop[None], SILHOUETTE_SIDE).flatten()


class _PatchStage:
    """What both stages share: the source, the module, the losses of the heads."""

    def __init__(self, config: StageConfig, encoder: nn.Module, heads: PatchHeads, source: PatchSource) -> None:
        self.config = config
        self.batch = source
        self.encoder, self.heads = encoder, heads
        self._module = nn.ModuleDict({"encoder": encoder, "heads": heads})

    def module(self) -> nn.Module:
        return self._module

    def parameters(self) -> Iterator[nn.Parameter]:
        return self._module.parameters()

    def patch_losses(self, states: Tensor, batch: PatchBatch) -> dict[str, Tensor]:
        """Losses of the heads on patch states (B, G*G, D)."""
        heads = self.heads
        there = batch.owners != NOTHING
        owners, on_object = batch.owners[there], states[there]
        terms = {"covered": F.binary_cross_entropy_with_logits(heads.covered(states)[..., 0].float(), there.float())}
        for index, (name, weight) in enumerate(ATTRIBUTE_WEIGHTS.items()):
            logits = heads.attributes[index](on_object)
            terms[name] = weight * label_loss(logits, batch.attributes[owners, index])
        offsets = heads.offsets(on_object).float()
        terms["offset"] = 2 * average(F.smooth_l1_loss(offsets, batch.offsets[there], beta=0.1, reduction="none"))
        # The outline says far more a patch than the name of the shape, and the name follows from it.
        drawn = heads.silhouette(on_object).float()
        outline = F.binary_cross_entropy_with_logits(drawn, batch.silhouettes[owners], reduction="none")
        terms["silhouette"] = 4 * average(outline)
        terms["background"] = 0.2 * F.cross_entropy(heads.background(states.mean(1)).float(), batch.backgrounds)
        return terms


class VisionStage(_PatchStage):
    """Stage of the training loop; optimises the MLLM's vision tower and the projector of its visual tokens."""

    def __init__(self, config: StageConfig, model: Sa2VA, processor: Processor) -> None:
        self._native = model.mllm.native
        tower = self._native.model.vision_tower
        grid = processor.config.tile_size // tower.config.patch_size[0]
        source = PatchSource(
            processor,
            config.seed,
            config.batch_size,
            grid,
            least_cover=0.4,
            token_grid=int(processor.config.tokens_per_tile**0.5),
        )
        super().__init__(config, tower, PatchHeads(tower.config.hidden_size), source)
        self._module["projector"] = self._native.model.multi_modal_projector
        self._words, self._centre = attribute_words(processor.tokenizer), centre_word(processor.tokenizer)

    def losses(self, batch: PatchBatch) -> dict[str, Tensor]:
        seen = self._native.model.get_image_features(pixel_values=batch.pixel_values, return_dict=True)
        terms = self.patch_losses(seen.last_hidden_state[:, 1:], batch)  # (B, G*G, D)
        there = batch.token_owners != NOTHING
        embeddings = self._native.get_input_embeddings().weight.detach()
        named = batch.attributes[batch.token_owners[there]]
        terms["names"] = name_loss(seen.pooler_output[there], named, self._words, embeddings)
        terms["centres"] = centre_loss(seen.pooler_output, batch.token_marks, embeddings[self._centre])
        return terms | {"total": torch.stack(list(terms.values())).sum()}


class SamVisionStage(_PatchStage):
    """Stage of the training loop; optimises SAM 2's image encoder, whose finest grid also learns what is an object."""

    def __init__(self, config: StageConfig, model: Sa2VA, processor: Processor) -> None:
        grid = processor.sam_size // 16
        # SAM 2 has no visual tokens; a grid of one cell stands for them and is not looked at.
        source = PatchSource(
            processor, config.seed, config.batch_size, grid, least_cover=0.2, token_grid=1, for_sam=True
        )
        super().__init__(config, model.sam2, PatchHeads(model.sam2.width), source)
        self._sam2 = model.sam2
        fine = model.sam2.native.mask_decoder.conv_s0.out_channels
        self.fine = nn.Conv2d(fine, 2, 1)
        self._module["fine"] = self.fine

    def parameters(self) -> Iterator[nn.Parameter]:
        native = self._sam2.native
        yield from native.vision_encoder.parameters()
        yield from native.mask_decoder.conv_s0.parameters()
        yield from self.heads.parameters()
        yield from self.fine.parameters()

    def losses(self, batch: PatchBatch) -> dict[str, Tensor]:
        features = self._sam2.encode_frames(batch.pixel_values)
        terms = self.patch_losses(features.embeds.flatten(2).transpose(1, 2), batch)
        fine = self.fine(features.high_res[0]).float()  # (B, 2, h, h): object, outline
        terms["fine"] = 2 * F.binary_cross_entropy_with_logits(fine, batch.fine)
        return terms | {"total": torch.stack(list(terms.values())).sum()}
