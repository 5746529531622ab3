"""Pre-train SAM 2's memory: follow objects from their true masks through a few frames.

Flow: drawn clips -> image encoder (frozen) -> true masks as prompts -> Tracker -> mask losses on the frames after.
Source: the paper's SAM 2 comes pre-trained on tracking; ours gets the same here. Without a language model a step is
    cheap, and a true mask leaves nothing to learn but the following.
Shapes: B clips, T frames of each, the first of them prompted, N objects, S SAM 2 input side, H W picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.losses import LossConfig, mask_losses, total_loss
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import MaskOutput
from sa2va.model.sam.tracker import Tracker
from sa2va.training.stage import StageConfig
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.training.scene_batch import rank_objects, stack_scenes

FIRST_CLIP = 20_000_000  # other clips than those of the tasks
CLIP_FRAMES = 16
# How many frames are seen, and how many there are from one to the next: more than one is faster motion. Long spans
# hold whole occlusions; from four frames after the given one, no model learnt to find anything again.
SPANS = ((5, 1), (5, 2), (5, 3), (8, 2), (12, 1))
FOLLOWED = 72  # objects times frames of a step, whatever the span
LEAST_PIXELS = 24  # of an object that is to be followed, on the first frame


@dataclass(frozen=True)
class ClipBatch:
    """Frames of B clips and N objects to follow."""

    sam_pixel_values: Tensor  # (B*T, 3, S, S)
    clip_index: Tensor  # (N,)
    given: Tensor  # (N, S, S) bool, on the first frame
    targets: Tensor  # (N, T - 1, H, W) bool, on the others


@dataclass(frozen=True)
class ClipSource:
    """Build the batch of a step: some of the clips' objects, first those that come back, then those that move."""

    processor: Processor
    seed: int
    batch_size: int

    def __call__(self, step: int) -> ClipBatch:
        rng = np.random.default_rng([self.seed, step])
        num_frames, stride = SPANS[int(rng.integers(len(SPANS)))]
        begin = int(rng.integers(CLIP_FRAMES - stride * (num_frames - 1)))
        chosen = [begin + stride * i for i in range(num_frames)]
        first = FIRST_CLIP + step * self.batch_size
        scenes = [make_scene(self.seed, "train", first + i, moving=True) for i in range(self.batch_size)]
        batch = stack_scenes(scenes, CLIP_FRAMES, chosen)
        seen = torch.nonzero(batch.masks[:, 0].flatten(1).sum(1) >= LEAST_PIXELS)[:, 0]
        order = np.lexsort([rng.random(len(seen)), -rank_objects(batch.masks[seen])])
        rows = seen[torch.from_numpy(order[: FOLLOWED // (num_frames - 1)])]
        side = self.processor.sam_size
        given = F.interpolate(batch.masks[rows, :1].float(), (side, side), mode="bilinear", antialias=True)[:, 0] > 0.5
        return ClipBatch(
            sam_pixel_values=self.processor.sam_pixel_values(batch.frames),
            clip_index=batch.scene_index[rows],
            given=given,
            targets=batch.masks[rows, 1:],
        )


class TrackStage:
    """Stage of the training loop; optimises what SAM 2 remembers with; its image encoder and decoder rest."""

    def __init__(self, config: StageConfig, model: Sa2VA, processor: Processor) -> None:
        self.config = config
        self.sam2 = model.sam2
        self._loss = LossConfig()
        self.batch = ClipSource(processor, config.seed, config.batch_size)

    def module(self) -> nn.Module:
        return self.sam2

    def parameters(self) -> Iterator[nn.Parameter]:
        native = self.sam2.native
        rest = [native.vision_encoder, native.prompt_encoder, native.mask_decoder, native.shared_image_embedding]
        rested = {id(p) for part in rest for p in part.parameters()}
        return (p for p in self.sam2.parameters() if id(p) not in rested)

    def losses(self, batch: ClipBatch) -> dict[str, Tensor]:
        sam2, number = self.sam2, batch.targets.shape[1] + 1
        with torch.no_grad():
            frames = sam2.project_maps(sam2.encode_maps(batch.sam_pixel_values))
        rows = batch.clip_index * number
        tracker = Tracker(sam2, num_frames=number)
        first = frames.select(rows)
        tracker.prompt(0, first, sam2.take_masks(first, batch.given), given=batch.given)
        outputs = [tracker.step(t, frames.select(rows + t)) for t in range(1, number)]
        targets = batch.targets.transpose(0, 1).flatten(0, 1)
        terms = mask_losses(MaskOutput.concatenate(outputs), targets, self._loss)
        return terms | {"total": total_loss(terms, self._loss)}
