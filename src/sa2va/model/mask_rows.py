"""List the masks that a training batch decodes: [SEG] state, frame and target of each.

Flow: Sample, objects of its answers, its key frames -> MaskRows.add -> MaskRows.tensors -> Batch.
Shapes: N objects of a sample, K key frames, R rows = N * K of all samples, H W picture, h w target grid.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.model.seg_design import SegDesign
from sa2va.types import Sample

_PRIME = 1_000_003


def row_seeds(seed: int, objects: Tensor, frames: Tensor) -> Tensor:
    """Derive the seed of each mask from the sample's seed, object and frame, independent of the batch."""
    return (seed * _PRIME + objects) * _PRIME + frames


def fit_targets(masks: Tensor, side: int | None) -> Tensor:
    """Resize bool masks (..., H, W) to a square by nearest neighbor, as the released code does; None keeps the size."""
    if side is None or masks.shape[-2:] == (side, side):
        return masks
    resized = F.interpolate(masks.flatten(0, -3)[:, None].byte(), (side, side), mode="nearest")
    return resized.bool().reshape(*masks.shape[:-2], side, side)


class MaskRows:
    """Collect the masks of a batch sample by sample."""

    def __init__(self, design: SegDesign, side: int | None, max_objects: int = 0) -> None:
        self._design, self._side, self._max_objects = design, side, max_objects
        self._start = torch.zeros(3, dtype=torch.long)  # numbers of states, frames and objects so far
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, sample: Sample, objects: Sequence[int], frames: Sequence[int], seed: int) -> None:
        """Add the masks of a sample: of all its objects, or of `max_objects` random ones if that is fewer.

        Args:
            sample: gives the targets.
            objects: N, in the order of their mask tokens; repeats are allowed.
            frames: K, indices of its key frames.
            seed: seed of the sample's random points and of the choice of objects.
        """
        rows = self._design.seg_rows(len(objects), len(frames))
        start = self._start
        self._start = start + rows.amax(0) + 1
        if 0 < self._max_objects < len(objects):
            kept = np.sort(np.random.default_rng([seed, len(objects)]).permutation(len(objects))[: self._max_objects])
            rows, objects = rows[torch.isin(rows[:, 2], torch.from_numpy(kept))], [objects[i] for i in kept]
        targets = torch.from_numpy(sample.tracks.masks(objects, frames)).flatten(0, 1)
        seeds = row_seeds(seed, rows[:, 2], torch.tensor(list(frames))[rows[:, 1]])
        self._parts.append((rows + start, fit_targets(targets, self._side), seeds))

    def tensors(self) -> dict[str, Tensor]:
        """Return `seg_rows`, `seg_targets` and `seg_seeds` of `Batch`.

        Raises:
            ValueError: targets differ in size.
        """
        if not self._parts:
            nothing = torch.zeros(0, dtype=torch.long)
            return {"seg_rows": nothing.reshape(0, 3), "seg_targets": torch.zeros(0, 1, 1).bool(), "seg_seeds": nothing}
        rows, targets, seeds = zip(*self._parts, strict=True)
        sizes = {tuple(one.shape[-2:]) for one in targets}
        if len(sizes) > 1:
            raise ValueError(f"pictures of one batch are {sorted(sizes)} px; set mask_side to resize their targets")
        return {"seg_rows": torch.cat(rows), "seg_targets": torch.cat(targets), "seg_seeds": torch.cat(seeds)}
