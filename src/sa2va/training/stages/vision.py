"""Pre-train the vision tower: every patch names the object it lies on.

Flow: drawn scenes -> vision tower -> linear heads -> attributes of the object under each patch, way to its centre.
Source: the paper's tower comes pre-trained; ours learns the world's attributes densely, which is far cheaper than
    learning them through captions.
Shapes: B scenes, G patches a side, D tower width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.data.world.sampling import make_scene
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import StageConfig
from sa2va.training.stages.scenes import ATTRIBUTE_SIZES, NUM_BACKGROUNDS, stack_scenes

NOTHING = -100  # label of a patch on the background
WEIGHTS = {"color": 1.0, "shape": 2.0, "size": 0.5, "texture": 0.5}  # shape is the one that takes long


@dataclass(frozen=True)
class PatchBatch:
    """Pixels and patch labels of B scenes."""

    pixel_values: Tensor  # (B, 3, s, s)
    covered: Tensor  # (B, G*G) float, 1 where an object fills most of the patch
    attributes: Tensor  # (B, G*G, 4) long, NOTHING on the background
    offsets: Tensor  # (B, G*G, 4) way from the patch to the object's box: x0, y0, x1, y1 in pictures
    backgrounds: Tensor  # (B,)


class PatchHeads(nn.Module):
    """Linear read-outs, thrown away after this stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attributes = nn.ModuleList(nn.Linear(width, size) for size in ATTRIBUTE_SIZES)
        self.covered = nn.Linear(width, 1)
        self.offsets = nn.Linear(width, 4)
        self.background = nn.Linear(width, NUM_BACKGROUNDS)


@dataclass(frozen=True)
class PatchSource:
    """Build the batch of a step; picklable, so that a worker process can run it."""

    processor: Processor
    seed: int
    batch_size: int
    patch_size: int

    def __call__(self, step: int) -> PatchBatch:
        first = step * self.batch_size
        scenes = [make_scene(self.seed, "train", first + i) for i in range(self.batch_size)]
        batch = stack_scenes(scenes)
        grid = self.processor.config.tile_size // self.patch_size
        cover = F.adaptive_avg_pool2d(batch.masks.float(), grid)[:, 0].flatten(1)  # (N, G*G)
        covered = torch.zeros(self.batch_size, grid * grid)
        attributes = torch.full((self.batch_size, grid * grid, len(ATTRIBUTE_SIZES)), NOTHING)
        offsets = torch.zeros(self.batch_size, grid * grid, 4)
        steps = (torch.arange(grid) + 0.5) / grid
        centres = torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)], dim=-1)  # (G*G, 2) xy
        x, y, width, height = batch.boxes[:, 0].unbind(-1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)  # (N, 4)
        best = torch.zeros(self.batch_size, grid * grid)
        for row, scene in enumerate(batch.scene_index.tolist()):
            mine = (cover[row] > 0.4) & (cover[row] > best[scene])
            best[scene] = torch.where(mine, cover[row], best[scene])
            covered[scene, mine] = 1.0
            attributes[scene, mine] = batch.attributes[row]
            offsets[scene, mine] = (corners[row] - centres.repeat(1, 2))[mine]
        tiles = self.processor.tiles(batch.frames)
        return PatchBatch(self.processor.pixel_values(tiles), covered, attributes, offsets, batch.backgrounds)


class VisionStage:
    """Stage of the training loop; optimises the tower and its heads."""

    def __init__(self, config: StageConfig, model: Sa2VA, processor: Processor) -> None:
        self.config = config
        tower = model.mllm.native.model.vision_tower
        self._module = nn.ModuleDict({"tower": tower, "heads": PatchHeads(tower.config.hidden_size)})
        self.batch = PatchSource(processor, config.seed, config.batch_size, tower.config.patch_size[0])

    def module(self) -> nn.Module:
        return self._module

    def parameters(self) -> Iterator[nn.Parameter]:
        return self._module.parameters()

    def losses(self, batch: PatchBatch) -> dict[str, Tensor]:
        states = self._module["tower"](pixel_values=batch.pixel_values).last_hidden_state[:, 1:]  # (B, G*G, D)
        heads = self._module["heads"]
        there = batch.covered > 0
        terms = {"covered": F.binary_cross_entropy_with_logits(heads.covered(states)[..., 0].float(), batch.covered)}
        for index, (name, weight) in enumerate(WEIGHTS.items()):
            logits = heads.attributes[index](states[there]).float()
            terms[name] = weight * F.cross_entropy(logits, batch.attributes[there][:, index])
        terms["offset"] = 2 * F.smooth_l1_loss(heads.offsets(states[there]).float(), batch.offsets[there], beta=0.1)
        terms["background"] = 0.2 * F.cross_entropy(heads.background(states.mean(1)).float(), batch.backgrounds)
        return terms | {"total": torch.stack(list(terms.values())).sum()}
