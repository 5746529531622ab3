"""Compute MultiMatch, the similarity of two scanpaths in shape, direction, length, position and duration.

Flow: two scanpaths -> align_saccades (cheapest path through their vector differences) -> compare -> MultiMatch.
Source: Jarodzka et al., ETRA 2010; Dewhurst et al., Behavior Research Methods 2012; without simplification.
    The code of the gaze papers pads scanpaths of fewer than three fixations with rows (1, 1, 1), as `published=True`
    does. Ours is nan unless both scanpaths have a saccade.
Shapes: K fixations, A B saccades of the two scanpaths, M steps of the alignment.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.metrics.strings import as_points

MIN_FIXATIONS = 3  # of the published code


@dataclass(frozen=True, kw_only=True)
class MultiMatch:
    """Five similarities, 0..1, higher is better; all nan if a scanpath has no saccade."""

    shape: float
    direction: float
    length: float
    position: float
    duration: float

    @property
    def mean(self) -> float:
        """MM, the mean of the first four as published."""
        return (self.shape + self.direction + self.length + self.position) / 4


def compare(
    one: ArrayLike,
    other: ArrayLike,
    one_durations: ArrayLike,
    other_durations: ArrayLike,
    width: int,
    height: int,
    *,
    published: bool = False,
) -> MultiMatch:
    """Compare two scanpaths.

    Args:
        one: (K, 2) xy, px.
        other: (K', 2) xy, px.
        one_durations: (K,) ms.
        other_durations: (K',) ms.
        width: Width of the canvas, px; its diagonal is the unit.
        height: Height of the canvas, px.
        published: Pad short scanpaths with rows of ones.

    Raises:
        ValueError: the numbers of durations and fixations differ, or a duration is negative.
    """
    first, first_times = _read(one, one_durations, published)
    second, second_times = _read(other, other_durations, published)
    if len(first) < 2 or len(second) < 2:
        return MultiMatch(**dict.fromkeys(MultiMatch.__dataclass_fields__, float("nan")))
    steps, partners = align_saccades(first, second)  # (M,), (M,)
    ours, theirs = np.diff(first, axis=0)[steps], np.diff(second, axis=0)[partners]  # (M, 2)
    turns = np.abs(_angles(ours) - _angles(theirs))
    longer = np.maximum(first_times[steps], second_times[partners])
    diagonal = float(np.hypot(width, height))
    differences = {
        "shape": np.linalg.norm(ours - theirs, axis=1) / (2 * diagonal),
        "direction": np.minimum(turns, 2 * np.pi - turns) / np.pi,
        "length": np.abs(np.linalg.norm(ours, axis=1) - np.linalg.norm(theirs, axis=1)) / diagonal,
        "position": np.linalg.norm(first[steps] - second[partners], axis=1) / diagonal,
        "duration": np.abs(first_times[steps] - second_times[partners]) / np.where(longer > 0, longer, 1.0),
    }
    return MultiMatch(**{name: 1 - float(np.median(values)) for name, values in differences.items()})


def align_saccades(one: ArrayLike, other: ArrayLike) -> tuple[list[int], list[int]]:
    """Align the saccades of two scanpaths monotonically with the minimum sum of vector differences.

    Args:
        one: (K, 2) xy, px; K >= 2.
        other: (K', 2) xy, px; K' >= 2.

    Returns:
        M saccade indices of the first scanpath, M of the second; both go from 0 to the last in steps of 0 or 1.
    """
    ours, theirs = np.diff(as_points(one), axis=0), np.diff(as_points(other), axis=0)  # (A, 2), (B, 2)
    costs = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)  # (A, B)
    total = np.full((len(ours) + 1, len(theirs) + 1), np.inf)  # a border of inf above and left
    total[1, 1] = 0.0  # every path contains the first pair, so its cost is irrelevant
    for row, column in np.ndindex(costs.shape):
        if row or column:
            reached = min(total[row, column], total[row, column + 1], total[row + 1, column])
            total[row + 1, column + 1] = reached + costs[row, column]
    steps, partners = [len(ours) - 1], [len(theirs) - 1]
    while steps[-1] or partners[-1]:
        row, column = steps[-1], partners[-1]
        before = [(total[row, column], -1, -1), (total[row, column + 1], -1, 0), (total[row + 1, column], 0, -1)]
        _, back, aside = min(before, key=lambda step: step[0])  # the diagonal on ties
        steps.append(row + back)
        partners.append(column + aside)
    return steps[::-1], partners[::-1]


def _read(points: ArrayLike, durations: ArrayLike, published: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places, times = as_points(points), np.asarray(durations, float).reshape(-1)
    if len(places) != len(times) or not (times >= 0).all():
        raise ValueError(
            f"MultiMatch: {len(places)} fixations with durations {times.tolist()}, expected one >= 0 ms per fixation"
        )
    missing = max(MIN_FIXATIONS - len(places), 0) if published else 0
    return np.concatenate([places, np.ones((missing, 2))]), np.concatenate([times, np.ones(missing)])


def _angles(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(vectors[:, 1], vectors[:, 0])
