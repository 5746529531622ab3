"""Open own data for training, and its held-out part for validation.

Flow: OwnData of a run -> data/own/dataset.py -> augmented training data; held-out samples -> grid_figures.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from sa2va.data.augment import AugmentConfig, Augmented
from sa2va.data.own.dataset import OwnDataset, build
from sa2va.data.own.objects import OwnConfig
from sa2va.data.stored import DrawConfig, StoredDataset
from sa2va.media.source import uniform_indices
from sa2va.metrics.iou import ciou, giou
from sa2va.training.mixture import DatasetShare
from sa2va.types import Sample

EVERY_EXPRESSION = 10_000  # expressions of a record in evaluation


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """Own data of a run: where it lies, how it is read, drawn and augmented."""

    path: str
    own: OwnConfig
    augment: AugmentConfig
    draw: DrawConfig

    def open(self, *, absent: bool = True) -> Augmented:
        """Open the training part, augmented; `absent=False` leaves out questions about absent objects.

        Raises:
            ValueError: the data cannot be read, see `data.own.dataset.build`.
        """
        own = self.own if absent else replace(self.own, absent_rate=0.0)
        return Augmented(build(self.path, split="train", draw=self.draw, own=own), self.augment)

    def open_plain(self, split: str) -> OwnDataset:
        """Open a part for measurements: every expression of something, one mask each, nothing augmented."""
        draw = replace(self.draw, num_expressions=EVERY_EXPRESSION, groups="union")
        return build(self.path, split=split, draw=draw, own=replace(self.own, absent_rate=0.0))

    def held_out_samples(self, number: int) -> Iterator[Sample]:
        """Draw samples spread over the held-out part."""
        dataset = self.open_plain("val")
        return (dataset[index] for index in uniform_indices(len(dataset), number))


@dataclass(frozen=True, kw_only=True)
class OwnShare(DatasetShare):
    """Own data of a run as a dataset of a mixture."""

    data: OwnData

    def open(self, folder: Path | None, draw: DrawConfig) -> StoredDataset:
        del folder, draw  # those of the run
        return self.data.open()


def own_share(data: OwnData) -> OwnShare:
    """Return the share of own data in a mixture: weight 1."""
    return OwnShare(name="own", path=data.path, weight=1.0, data=data)


def grid_figures(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Compute cIoU and mean IoU of mask logits (N, h', w') and targets (N, h, w) bool, on the grid of the targets."""
    shared, covered = [], []
    for logits, targets in pairs:
        size = (targets.shape[-2], targets.shape[-1])
        found = F.interpolate(logits[None].float(), size, mode="bilinear")[0] > 0
        shared += (found & targets).sum((-2, -1)).tolist()
        covered += (found | targets).sum((-2, -1)).tolist()
    return {"ciou": ciou(shared, covered), "iou": giou(shared, covered)}
