"""Target metrics: hits of the last or any fixation, hit rate by words left, latency.

Flow: fixations, target box -> inside_box -> last_hit, any_hit, hit_curve, latency_to_target.
Source: RefCOCO-Gaze, arXiv:2407.19605, keeps only correct trials, whose last fixation is on the target.
Shapes: K fixations, N words, H W canvas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.metrics.strings import as_points

Box = tuple[float, float, float, float]  # x0, y0, x1, y1, px


def inside_box(points: ArrayLike, box: Box) -> NDArray[np.bool_]:
    """Tell which fixations lie in a box, edges included.

    Args:
        points: (K, 2) xy, px.
        box: x0, y0, x1, y1, px.

    Returns:
        (K,) bool.
    """
    x0, y0, x1, y1 = box
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"target box {box}: expected x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
    x, y = as_points(points).T
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)


def last_hit(on_target: ArrayLike) -> bool:
    """Tell whether the last fixation is on the target; False without fixations.

    Args:
        on_target: (K,) bool.
    """
    flags = np.asarray(on_target, bool)
    return bool(len(flags) and flags[-1])


def any_hit(on_target: ArrayLike) -> bool:
    """Tell whether any of K fixations is on the target."""
    return bool(np.asarray(on_target, bool).any())


@dataclass(frozen=True, kw_only=True)
class HitCurve:
    """Share of fixations on the target by phase of the expression; nan without fixations."""

    before: float  # before the first word
    words_left: Mapping[int, float]  # number of words after the current one -> share
    after: float  # after the last word


def hit_curve(scanpaths: Sequence[Sequence[ArrayLike]]) -> HitCurve:
    """Compute the hit curve of many scanpaths, pooling fixations by the number of words left.

    Args:
        scanpaths: For each, N + 2 arrays (K,) bool: whether the fixations of a pack are on the target.

    Raises:
        ValueError: a scanpath has fewer than two packs.
    """
    return curve_of_counts(hit_counts(scanpaths, max((len(packs) for packs in scanpaths), default=2) - 2))


def hit_counts(scanpaths: Sequence[Sequence[ArrayLike]], num_words: int) -> NDArray[np.float64]:
    """Count hits and fixations by phase: before the words, with 0 .. num_words - 1 words left, after the words.

    Args:
        scanpaths: As for `hit_curve`.
        num_words: At least the number of words of the longest scanpath.

    Returns:
        (2, num_words + 2).
    """
    counts = np.zeros((2, num_words + 2))
    for packs in scanpaths:
        if len(packs) < 2:
            raise ValueError(f"hit curve: a scanpath of {len(packs)} packs, expected at least 2 (before and after)")
        for position, pack in enumerate(packs):
            left = len(packs) - 2 - position  # -1: after the last word
            place = 0 if position == 0 else 1 + left if left >= 0 else num_words + 1
            flags = np.asarray(pack, bool)
            counts[:, place] += flags.sum(), flags.size
    return counts


def curve_of_counts(counts: NDArray[np.float64]) -> HitCurve:
    """Convert counts of `hit_counts`, (2, P), to a hit curve."""
    shares = [hits / total if total else float("nan") for hits, total in counts.T.tolist()]
    left = {place: share for place, share in enumerate(shares[1:-1]) if np.isfinite(share)}
    return HitCurve(before=shares[0], words_left=left, after=shares[-1])


def curve_gap(pred: HitCurve, human: HitCurve) -> float:
    """Compute the mean absolute difference of two curves over their common phases.

    Returns:
        0..1, lower is better; nan without common phases.
    """
    pairs = [(pred.before, human.before), (pred.after, human.after)]
    pairs += [(pred.words_left[left], human.words_left[left]) for left in pred.words_left if left in human.words_left]
    gaps = [abs(ours - theirs) for ours, theirs in pairs if np.isfinite(ours) and np.isfinite(theirs)]
    return float(np.mean(gaps)) if gaps else float("nan")


def latency_to_target(starts: ArrayLike, on_target: ArrayLike, onset: float) -> float:
    """Compute the time from the noun's onset to the onset of the next fixation on the target.

    Args:
        starts: (K,) fixation onsets, ms.
        on_target: (K,) bool.
        onset: Onset of the noun, ms on the same clock.

    Returns:
        ms, at least 0; nan without such a fixation.
    """
    times, flags = np.asarray(starts, float), np.asarray(on_target, bool)
    if times.shape != flags.shape:
        raise ValueError(f"latency: {times.size} starts and {flags.size} hits, expected equal counts")
    reached = times[flags & (times >= onset)]
    return float(reached.min() - onset) if len(reached) else float("nan")
