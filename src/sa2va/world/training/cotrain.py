"""Train all tasks on synthetic scenes jointly: text on every sample, masks where an answer has them, tracked clips.

Flow: CotrainConfig -> CotrainData (tasks -> Processor -> WorldBatch) -> GroundedSa2VA -> LossTerms.
Source: Sa2VA, arXiv:2501.04001, section 3.3 (one joint stage, both image encoders frozen). Here SAM 2's encoder is
    trained at a lower rate, with auxiliary losses and a few tracked frames per clip.
Shapes: B samples, N objects of answers, K key frames, T tracked frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from sa2va.media.source import uniform_indices
from sa2va.model.batch import Batch, Tracks
from sa2va.model.losses import LossConfig
from sa2va.model.mask_rows import row_seeds
from sa2va.model.processor import Processor
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.types import Sample
from sa2va.world.tasks.catalog import TASKS
from sa2va.world.tasks.items import CLIP_FRAMES, TASK_ORDER
from sa2va.world.training.auxiliary_heads import (
    AuxiliaryConfig,
    GroundedSa2VA,
    Grounding,
    LocationHead,
    PatchLabels,
    WorldBatch,
)
from sa2va.world.training.mask_decoder import ObjectCode
from sa2va.world.training.patch_labels import label_cells
from sa2va.world.training.scene_batch import rank_objects
from sa2va.world.training.task_mixture import COTRAIN_SHARES, TaskShares, draw_tasks
from sa2va.world.training.tiny_losses import TINY_LOSSES
from sa2va.world.training.word_grounding import Words, ground_mask_tokens, ground_questions


@dataclass(frozen=True, kw_only=True)
class CotrainConfig(StageConfig):
    """Settings of joint training."""

    shares: TaskShares = COTRAIN_SHARES
    losses: LossConfig = TINY_LOSSES
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    decodes_masks: bool = True  # False trains only the MLLM and the projector, several times cheaper
    trains_sam: bool = True  # only if masks are decoded; False: masks train the text model and the projector alone
    trains_sam_encoder: bool = True  # only if SAM 2 is trained
    pretrained_lr_scale: float = 0.3  # factor of the learning rate of pretrained parts
    clips_per_picture: float = 3 / 8  # clips in a batch, relative to pictures; a clip has four times the visual tokens
    # (tracked frames, tracked objects per clip), sampled uniformly. Long spans contain whole occlusions; tracking all
    # objects through them takes too long.
    tracked: tuple[tuple[int, float], ...] = ((3, 1.5), (9, 0.5))
    alignment: float = 1.0  # initial weight of the alignment with object codes
    alignment_share: float = 0.5  # share of the stage over which that weight decays to 0; 0 = constant

    def build(self, context: RunContext) -> "CotrainStage":
        return CotrainStage(self, context, CotrainData(self, context.processor))


@dataclass(frozen=True)
class StepPlan:
    """Composition of a step: tasks, tracked frames and objects; equal in all processes."""

    group: str
    tasks: list[str]  # task of each sample
    num_followed: float = 0.0  # tracked objects per clip
    tracked: tuple[int, ...] = ()  # tracked frames


@dataclass(frozen=True)
class DrawnItem:
    """One sample and its step."""

    step: int
    seed: int  # seed of its random points
    sample: Sample


class CotrainData:
    """Data of the stage: the samples of a step belong to one group of tasks."""

    def __init__(self, config: CotrainConfig, processor: Processor) -> None:
        self.config, self.processor = config, processor
        self.keyframes = uniform_indices(CLIP_FRAMES, processor.config.num_keyframes)
        self.side = int(processor.config.tokens_per_tile**0.5)

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        # Sample indices are unique; different tasks generate different scenes from the same index.
        tasks = self.plan(step)[0].tasks
        return [(step, task, step * self.config.batch_size + i) for i, task in enumerate(tasks)]

    def __getitem__(self, key: Key) -> DrawnItem:
        step, task, index = int(key[0]), str(key[1]), int(key[2])
        sample = TASKS[task](self.config.seed, "train", index)
        return DrawnItem(step, index * len(TASK_ORDER) + TASK_ORDER.index(task), sample)

    def plan(self, step: int) -> tuple[StepPlan, np.random.Generator]:
        """Sample the composition of a step; return it with its random generator, for further sampling."""
        config, rng = self.config, np.random.default_rng([self.config.seed, step])
        num_clips = max(1, round(config.batch_size * config.clips_per_picture))
        group, tasks = draw_tasks(config.shares, config.batch_size, num_clips, rng)
        if not group.startswith("video"):
            return StepPlan(group, tasks), rng
        num_tracked, num_followed = config.tracked[int(rng.integers(len(config.tracked)))]
        # Start right after a key frame, so that the temporal distances of memories are those of inference.
        rest = [frame for frame in range(CLIP_FRAMES) if frame not in self.keyframes]
        begins = [index for index, frame in enumerate(rest[: 1 - num_tracked]) if frame - 1 in self.keyframes]
        begin = int(rng.choice(begins))
        return StepPlan(group, tasks, num_followed, tuple(rest[begin : begin + num_tracked])), rng

    def collate(self, items: Sequence[DrawnItem]) -> WorldBatch:
        config, samples, step = self.config, [item.sample for item in items], items[0].step
        plan, rng = self.plan(step)
        is_clip = bool(plan.tracked)
        keyframes = self.keyframes if is_clip else [0]
        batch = self.processor(
            samples,
            [keyframes] * len(samples),
            seeds=[item.seed for item in items],
            for_masks=config.decodes_masks and plan.group in ("refseg", "gcg", "video_refseg"),
        )
        alignment = 0.0 if is_clip else config.alignment
        if alignment and config.alignment_share:
            alignment *= max(0.0, 1 - step / (config.alignment_share * config.steps))
        grounding = ground(samples, batch, keyframes, self.side, self.processor, alignment)
        if is_clip and len(batch.seg_rows):
            batch = self._track(batch, items, plan, rng)
        return WorldBatch(batch, grounding)

    def _track(self, batch: Batch, items: Sequence[DrawnItem], plan: StepPlan, rng: np.random.Generator) -> Batch:
        """Add objects to track to a batch; reappearing objects have priority, then moving ones."""
        frames = list(plan.tracked)
        owners, parts, seeds = [], [], []
        for clip, item in enumerate(items):
            objects = answer_objects(item.sample)
            owners += [clip] * len(objects)
            parts.append(torch.from_numpy(item.sample.tracks.masks(objects, frames)))
            rows = torch.arange(len(objects))[:, None]
            seeds.append(row_seeds(item.seed, rows, torch.tensor([frames]).expand(len(objects), -1)))
        targets = torch.cat([part for part in parts if len(part)])  # (N, T, H, W)
        order = np.lexsort([rng.random(len(targets)), -rank_objects(targets)])
        followed = torch.from_numpy(order[: max(1, round(plan.num_followed * len(items)))])
        clips, clip_rows = torch.tensor(owners)[followed].unique(return_inverse=True)
        seen = [items[clip].sample.media[0].frames(frames) for clip in clips.tolist()]
        num_keyframes = len(self.keyframes)
        tracks = Tracks(
            keyframes=tuple(self.keyframes),
            frames=plan.tracked,
            pixel_values=self.processor.sam_pixel_values(np.concatenate(seen)),
            frame_index=clip_rows[:, None] * len(frames) + torch.arange(len(frames)),
            key_rows=followed[:, None] * num_keyframes + torch.arange(num_keyframes),
            targets=targets[followed],
            seeds=torch.cat(seeds)[followed],
        )
        return replace(batch, tracks=tracks)


def answer_objects(sample: Sample) -> list[int]:
    """List the objects of all answers in the order of their mask tokens."""
    spans = [span for turn in sample.turns for span in sorted(turn.spans, key=lambda s: s.start)]
    return [index for span in spans for index in span.objects]


def ground(
    samples: Sequence[Sample],
    batch: Batch,
    keyframes: Sequence[int],
    side: int,
    processor: Processor,
    alignment: float,
) -> Grounding:
    """Collect the ground truth of a batch beyond labels and masks.

    Args:
        samples: B samples.
        batch: batch of these samples.
        keyframes: K, indices of the key frames in it.
        side: side of the grid of visual tokens.
        processor: processor that built the batch.
        alignment: see `Grounding`.
    """
    per_object = len(processor.design.object_tokens(len(keyframes)))
    covers, boxes = [torch.zeros(0, len(keyframes) * side**2)], [torch.zeros(0, 4)]
    for sample in samples:
        objects = answer_objects(sample)
        if objects:
            cover, box = ground_mask_tokens(sample, objects, keyframes, side, per_object)
            covers.append(cover)
            boxes.append(box)
    return Grounding(
        questions=ground_questions(samples, batch.input_ids, keyframes, side, processor.tokenizer),
        objects=Words(batch.seg_positions, torch.cat(covers)),
        boxes=torch.cat(boxes),
        alignment=alignment,
        patches=PatchLabels(*label_cells(samples, side)),
    )


class CotrainStage:
    """Stage that trains the MLLM, the projector and, if masks are decoded, SAM 2; the vision tower is frozen."""

    def __init__(self, config: CotrainConfig, context: RunContext, data: Any) -> None:
        self.config, self.data = config, data
        model, kept = context.model, context.kept
        num_cells = model.config.tokens_per_tile * model.config.num_keyframes
        location = kept.setdefault("location", LocationHead(model.mllm.width, num_cells))
        code = kept.get("object_code")
        assert isinstance(location, LocationHead) and isinstance(code, ObjectCode | None)
        self.module = GroundedSa2VA(model, location, code, context.processor.tokenizer, config.losses, config.auxiliary)
        _choose_trained(self.module, config)

    def parameters(self) -> Iterator[dict[str, Any]]:
        # At the full rate the norm of visual tokens grew to a hundred times that of word embeddings, and the
        # contributions of the layers became negligible.
        model = self.module.model
        visual = model.mllm.vision_projector, model.mllm.temporal or nn.Module(), model.sam2.native.vision_encoder
        slow = [parameter for part in visual for parameter in part.parameters()]
        apart = {id(p) for p in slow}
        yield {"params": [p for p in self.module.parameters() if p.requires_grad and id(p) not in apart]}
        yield {"params": slow, "lr_scale": self.config.pretrained_lr_scale}


def _choose_trained(module: GroundedSa2VA, config: CotrainConfig) -> None:
    """Select the trained parameters."""
    model = module.model
    module.requires_grad_(True)
    # The vision tower is frozen, as in the paper. When trained here, it forgot shapes within 400 steps.
    model.mllm.vision_tower.requires_grad_(False)
    if not (config.decodes_masks and config.trains_sam):
        model.sam2.requires_grad_(False)
    elif not config.trains_sam_encoder:
        model.sam2.native.vision_encoder.requires_grad_(False)
    if module.code is not None:
        module.code.requires_grad_(False)
