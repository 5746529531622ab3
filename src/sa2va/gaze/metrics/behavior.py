"""Classify saccades as waiting, scanning or verifying.

Flow: fixations and the object under each -> saccade_kinds, compared between people and a model.
Source: RefCOCO-Gaze, arXiv:2407.19605, describes waiting, scanning and verification; the classification is our own.
Shapes: K fixations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from sa2va.gaze.metrics.motion import WAITING, amplitudes
from sa2va.gaze.metrics.strings import as_points


@dataclass(frozen=True, kw_only=True)
class SaccadeKinds:
    """Counts of saccades by kind."""

    waiting: int = 0  # shorter than WAITING, or within one object
    scanning: int = 0  # to an object not fixated before
    verifying: int = 0  # back to an object fixated before
    elsewhere: int = 0  # to the background

    def __add__(self, other: "SaccadeKinds") -> "SaccadeKinds":
        return SaccadeKinds(
            waiting=self.waiting + other.waiting,
            scanning=self.scanning + other.scanning,
            verifying=self.verifying + other.verifying,
            elsewhere=self.elsewhere + other.elsewhere,
        )

    @property
    def total(self) -> int:
        return self.waiting + self.scanning + self.verifying + self.elsewhere


def saccade_kinds(points: ArrayLike, objects: Sequence[int | None]) -> SaccadeKinds:
    """Classify the saccades of one scanpath.

    Args:
        points: (K, 2) xy, px of 512 x 320.
        objects: (K,) index of the object under each fixation, None for the background.

    Returns:
        Counts of the K - 1 saccades.

    Raises:
        ValueError: the numbers of objects and fixations differ.
    """
    places = as_points(points)
    if len(objects) != len(places):
        raise ValueError(f"saccades: {len(objects)} objects for {len(places)} fixations, expected one per fixation")
    kinds = SaccadeKinds()
    seen = {objects[0]} if objects else set()
    for length, before, here in zip(amplitudes(places), objects, objects[1:], strict=False):
        if length < WAITING or (here is not None and here == before):
            kinds += SaccadeKinds(waiting=1)
        elif here is None:
            kinds += SaccadeKinds(elsewhere=1)
        elif here in seen:
            kinds += SaccadeKinds(verifying=1)
        else:
            kinds += SaccadeKinds(scanning=1)
        seen.add(here)
    return kinds
