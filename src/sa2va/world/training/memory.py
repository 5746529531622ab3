"""Pretrain SAM 2's memory modules: track objects from ground-truth masks through a few frames.

Flow: synthetic clips -> image encoder (frozen) -> ground-truth masks as prompts -> Tracker -> mask losses on later
    frames.
Source: the paper starts from a SAM 2 pretrained on tracking, which this stage replaces. Steps without a language model
    are cheap, and with ground-truth prompts only tracking is learned.
Shapes: B clips, T frames of each, the first of them prompted, N objects, S SAM 2 input side, H W picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.losses import LossConfig, LossTerm, mask_losses
from sa2va.model.mask_rows import row_seeds
from sa2va.model.processor import Processor
from sa2va.model.sam.sam2 import MaskOutput, Sam2
from sa2va.model.sam.tracker import Tracker
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.tasks.items import CLIP_FRAMES
from sa2va.world.training.scene_batch import SceneBatch, join_scenes, rank_objects, render_scene
from sa2va.world.training.tiny_losses import TINY_LOSSES


@dataclass(frozen=True)
class ClipBatch:
    """Batch of B clips with N objects to track."""

    sam_pixel_values: Tensor  # (B*T, 3, S, S)
    clip_index: Tensor  # (N,)
    given: Tensor  # (N, S, S) bool, mask prompts on the first frame
    targets: Tensor  # (N, T - 1, H, W) bool, masks on the other frames
    seeds: Tensor  # (N, T - 1) long, seeds of the random points of each mask


@dataclass(frozen=True)
class DrawnClip:
    """Selected frames of one clip, with its step and index."""

    step: int
    index: int
    scene: SceneBatch


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(StageConfig):
    """Settings of pretraining SAM 2's memory modules."""

    losses: LossConfig = TINY_LOSSES
    # (frames, stride), sampled uniformly; a larger stride means faster motion. Long spans contain whole occlusions;
    # with only four frames after the prompt, no model learned to find objects again.
    spans: tuple[tuple[int, int], ...] = ((5, 1), (5, 2), (5, 3), (8, 2), (12, 1))
    followed: int = 72  # tracked objects times tracked frames per step, for any span
    least_pixels: int = 24  # least visible area of a tracked object on the first frame
    first_clip: int = 20_000_000  # index of the first clip; the tasks use other clips

    def build(self, context: RunContext) -> "MemoryStage":
        return MemoryStage(self, context)


class ClipData:
    """Data of the stage: rendered clips with objects to track; reappearing objects have priority, then moving ones."""

    def __init__(self, config: MemoryConfig, processor: Processor) -> None:
        self.config, self.processor = config, processor

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        first = self.config.first_clip + step * self.config.batch_size
        return [(step, first + i) for i in range(self.config.batch_size)]

    def __getitem__(self, key: Key) -> DrawnClip:
        step, index = int(key[0]), int(key[1])
        rng = np.random.default_rng([self.config.seed, step])  # all clips of a step use the same frame indices
        num_frames, stride = self.config.spans[int(rng.integers(len(self.config.spans)))]
        begin = int(rng.integers(CLIP_FRAMES - stride * (num_frames - 1)))
        chosen = [begin + stride * i for i in range(num_frames)]
        scene = make_scene(self.config.seed, "train", index, moving=True)
        return DrawnClip(step, index, render_scene(scene, CLIP_FRAMES, chosen))

    def collate(self, items: Sequence[DrawnClip]) -> ClipBatch:
        config, batch = self.config, join_scenes([item.scene for item in items])
        rng = np.random.default_rng([config.seed, items[0].step, 1])
        num_targets = batch.masks.shape[1] - 1
        seen = torch.nonzero(batch.masks[:, 0].flatten(1).sum(1) >= config.least_pixels)[:, 0]
        order = np.lexsort([rng.random(len(seen)), -rank_objects(batch.masks[seen])])
        number = max(1, config.followed * len(items) // (config.batch_size * num_targets))
        rows = seen[torch.from_numpy(order[:number])]
        side = self.processor.sam_size
        given = F.interpolate(batch.masks[rows, :1].float(), (side, side), mode="bilinear", antialias=True)[:, 0] > 0.5
        clips = torch.tensor([item.index for item in items])[batch.scene_index[rows]]
        return ClipBatch(
            sam_pixel_values=self.processor.sam_pixel_values(batch.frames),
            clip_index=batch.scene_index[rows],
            given=given,
            targets=batch.masks[rows, 1:],
            seeds=row_seeds(0, clips * 64 + rows, torch.arange(num_targets)[:, None]).T,
        )


class MemoryModule(nn.Module):
    """Training module: SAM 2 tracking objects from ground-truth masks."""

    def __init__(self, sam2: Sam2, losses: LossConfig) -> None:
        super().__init__()
        self.sam2, self.losses = sam2, losses

    def forward(self, batch: ClipBatch) -> dict[str, LossTerm]:
        sam2, number = self.sam2, batch.targets.shape[1] + 1
        with torch.no_grad():
            frames = sam2.project_maps(sam2.encode_maps(batch.sam_pixel_values))
        rows = batch.clip_index * number
        tracker = Tracker(sam2, num_frames=number)
        first = frames.select(rows)
        tracker.prompt(0, first, sam2.take_masks(first, batch.given), given=batch.given)
        outputs = [tracker.step(t, frames.select(rows + t)) for t in range(1, number)]
        targets = batch.targets.transpose(0, 1).flatten(0, 1)
        return mask_losses(MaskOutput.concatenate(outputs), targets, self.losses, batch.seeds.T.flatten())


class MemoryStage:
    """Stage that trains memory encoder, memory attention and pointers; the other modules of SAM 2 are frozen."""

    def __init__(self, config: MemoryConfig, context: RunContext) -> None:
        sam2 = context.model.sam2
        self.config, self.module = config, MemoryModule(sam2, config.losses)
        self.data = ClipData(config, context.processor)
        self.module.requires_grad_(True)
        native = sam2.native
        for part in (native.vision_encoder, native.prompt_encoder, native.mask_decoder, native.shared_image_embedding):
            part.requires_grad_(False)

    def parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)
