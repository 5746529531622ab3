"""Pretrain SAM 2's memory modules: track objects through clips in which they disappear and return.

Flow: synthetic clips -> image encoder (frozen) -> prompts on one frame -> Tracker -> mask and presence losses on the
    tracked frames. The first tracked frames only fill the memory, with the model's own masks and without gradients.
Source: the paper starts from a SAM 2 pretrained on tracking, which this stage replaces. Steps without a language model
    are cheap, and with prompts that are right only tracking is learned.
Shapes: B clips, K frames of each, the first of them prompted, N objects, S SAM 2 input side, H W picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.losses import LossConfig, LossTerm, candidate_ious, mask_losses
from sa2va.model.mask_rows import row_seeds
from sa2va.model.processor import Processor
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import Tracker
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.world.tasks.items import CLIP_FRAMES
from sa2va.world.training.returning_clips import choose_long, choose_short
from sa2va.world.training.scene_batch import SceneBatch, join_scenes, rank_objects, render_scene
from sa2va.world.training.tiny_losses import TINY_LOSSES

LONG_GAP = 100  # frame number of the first tracked frame of a long clip, far from the prompt at 0


@dataclass(frozen=True)
class TrackPlan:
    """Frames of one step, the same for all its clips."""

    is_long: bool
    numbers: tuple[int, ...]  # K frame numbers for the tracker, the prompted one first
    num_settling: int  # tracked frames without gradients


@dataclass(frozen=True)
class ClipBatch:
    """Batch of B clips with N objects to track."""

    sam_pixel_values: Tensor  # (B*K, 3, S, S)
    clip_index: Tensor  # (N,)
    given: Tensor  # (N, S, S) bool, masks on the prompted frame
    points: Tensor  # (N, 1, 2) xy in px of the S x S input, inside the masks
    by_mask: Tensor  # (N,) bool, whether the mask is the prompt, else what the decoder makes of the point
    targets: Tensor  # (N, K - 1, H, W) bool, masks on the tracked frames
    seeds: Tensor  # (N, K - 1) long, seeds of the random points of each mask
    numbers: tuple[int, ...]  # see TrackPlan
    num_settling: int


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
    # (frames, stride) of a short clip, sampled uniformly; a larger stride means faster motion. Long spans contain whole
    # occlusions; with only four frames after the prompt, no model learned to find objects again.
    spans: tuple[tuple[int, int], ...] = ((5, 1), (5, 2), (5, 3), (8, 2), (12, 1))
    candidates: int = 1  # scenes per short clip, of which one with a hidden and returning object is preferred
    mask_share: float = 1.0  # share of objects that are prompted by their mask, the others by the decoder's own mask
    later_prompt: float = 0.0  # share of steps with short clips that prompt another frame than the first
    long_share: float = 0.0  # share of steps with windows of long clips
    window: int = 12  # frames of such a window
    strides: tuple[int, ...] = (1, 2)  # distance of its frames
    most_settling: int = 0  # largest number of first tracked frames without gradients
    followed: int = 72  # tracked objects times tracked frames with gradients per step
    least_pixels: int = 24  # least visible area of a tracked object on the prompted frame
    first_clip: int = 20_000_000  # index of the first clip; the tasks use other clips

    def build(self, context: RunContext) -> "MemoryStage":
        return MemoryStage(self, context)

    def plan(self, step: int) -> TrackPlan:
        """Sample the frames of a step."""
        rng = np.random.default_rng([self.seed, step])
        is_long = bool(rng.random() < self.long_share)
        settling = max(0, int(rng.integers(-self.most_settling, self.most_settling + 1)))  # 0 in half of the steps
        if is_long:
            return TrackPlan(True, (0, *range(LONG_GAP, LONG_GAP + self.window)), min(settling, self.window - 1))
        num_frames, stride = self.spans[int(rng.integers(len(self.spans)))]
        begin = int(rng.integers(CLIP_FRAMES - stride * (num_frames - 1)))
        frames = [begin + stride * number for number in range(num_frames)]
        prompted = int(rng.integers(1, num_frames)) if rng.random() < self.later_prompt else 0
        numbers = (frames.pop(prompted), *frames)
        return TrackPlan(False, numbers, min(settling, max(0, len(frames) - 4)))


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
        config, (step, index) = self.config, (int(key[0]), int(key[1]))
        plan = config.plan(step)
        if plan.is_long:
            chosen = choose_long(config.seed, index, config.window, config.strides)
        else:
            chosen = choose_short(config.seed, index, CLIP_FRAMES, plan.numbers, config.candidates)
        return DrawnClip(step, index, render_scene(chosen.scene, chosen.num_frames, chosen.frames))

    def collate(self, items: Sequence[DrawnClip]) -> ClipBatch:
        config, batch = self.config, join_scenes([item.scene for item in items])
        plan, rng = config.plan(items[0].step), np.random.default_rng([config.seed, items[0].step, 1])
        num_targets = batch.masks.shape[1] - 1
        side = self.processor.sam_size
        first = F.interpolate(batch.masks[:, :1].float(), (side, side), mode="bilinear", antialias=True)[:, 0] > 0.5
        # A sliver of one pixel may be gone where a frame is shrunk to the input of SAM 2.
        is_seen = (batch.masks[:, 0].flatten(1).sum(1) >= config.least_pixels) & first.flatten(1).any(1)
        seen = torch.nonzero(is_seen)[:, 0]
        order = np.lexsort([rng.random(len(seen)), -rank_objects(batch.masks[seen])])
        share = len(items) / config.batch_size
        number = max(1, int(config.followed * share) // (num_targets - plan.num_settling))
        rows = seen[torch.from_numpy(order[:number])]
        given = first[rows]
        clips = torch.tensor([item.index for item in items])[batch.scene_index[rows]]
        return ClipBatch(
            sam_pixel_values=self.processor.sam_pixel_values(batch.frames),
            clip_index=batch.scene_index[rows],
            given=given,
            points=torch.stack([_inner_point(mask) for mask in given])[:, None],
            by_mask=torch.from_numpy(rng.random(len(rows)) < config.mask_share),
            targets=batch.masks[rows, 1:],
            seeds=row_seeds(0, clips * 64 + rows, torch.arange(num_targets)[:, None]).T,
            numbers=plan.numbers,
            num_settling=plan.num_settling,
        )


def _inner_point(mask: Tensor) -> Tensor:
    """Return the pixel of a mask that is nearest to its mean: bool (S, S) -> (2,) xy in px."""
    pixels = torch.nonzero(mask).float()
    nearest = pixels[(pixels - pixels.mean(0)).square().sum(1).argmin()]
    return nearest.flip(0) + 0.5


class MemoryModule(nn.Module):
    """Training module: SAM 2 tracking objects from prompts on one frame."""

    def __init__(self, sam2: Sam2, losses: LossConfig) -> None:
        super().__init__()
        self.sam2, self.losses = sam2, losses

    def forward(self, batch: ClipBatch) -> dict[str, LossTerm]:
        with torch.no_grad():
            frames = self.sam2.project_maps(self.sam2.encode_maps(batch.sam_pixel_values))
        rows = batch.clip_index * len(batch.numbers)
        tracker = Tracker(self.sam2, num_frames=len(batch.numbers))
        settling, learning = self._split(batch)
        with torch.no_grad():
            if settling:
                self.prompt(tracker, frames.select(rows), batch)
            for place in settling:
                tracker.step(batch.numbers[place], frames.select(rows + place))
        torch.clear_autocast_cache()  # its copies of the weights would get no gradient
        self.prompt(tracker, frames.select(rows), batch)
        outputs = [tracker.step(batch.numbers[place], frames.select(rows + place)) for place in learning]
        targets = batch.targets[:, batch.num_settling :].transpose(0, 1).flatten(0, 1)
        seeds = batch.seeds[:, batch.num_settling :].T.flatten()
        return mask_losses(MaskOutput.concatenate(outputs), targets, self.losses, seeds)

    @staticmethod
    def _split(batch: ClipBatch) -> tuple[range, range]:
        """Split the tracked frames into those without and those with gradients."""
        first = 1 + batch.num_settling
        return range(1, first), range(first, len(batch.numbers))

    def prompt(self, tracker: Tracker, first: FrameFeatures, batch: ClipBatch) -> None:
        """Prompt each object with its mask, or with the decoder's mask at a point on it if that mask is right."""
        sam2, labels = self.sam2, torch.ones(len(batch.points), 1, dtype=torch.int32, device=batch.points.device)
        sparse = sam2.click_prompt(batch.points, labels)
        own = sam2.decode(sam2.without_memory(first.embeds), first.high_res, sparse, present=True)
        is_right = candidate_ious(own.settled().candidates, batch.given.float())[:, 0] > self.losses.follow_iou
        by_mask = batch.by_mask | ~is_right
        for rows in (torch.nonzero(by_mask)[:, 0], torch.nonzero(~by_mask)[:, 0]):
            if not len(rows):
                continue
            seen, given = first.select(rows), batch.given[rows] if bool(by_mask[rows[0]]) else None
            output = own.select(rows) if given is None else sam2.take_masks(seen, given)
            tracker.prompt(batch.numbers[0], seen, output, ids=rows.tolist(), given=given)


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
        native.no_memory_embedding.requires_grad_(False)  # of pictures

    def parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)
