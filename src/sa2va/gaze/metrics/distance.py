"""Distances between two paths: dynamic time warping, time-delay embedding, local bipartite matching.

Flow: fixations (or traces of boxes) -> dtw, closest_dtw, time_delay_embedding, local_bipartite_matching.
Source: Sakoe and Chiba, 1978 (DTW); Wang et al., CVPR 2011 (time-delay embedding); Meng et al., CVPR 2021,
    arXiv:2105.05964 (local bipartite matching of Localized Narratives).
Shapes: K fixations, P people, T boxes of a trace.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sa2va.gaze.metrics.strings import as_points

SEGMENT = 20  # number of boxes of the shorter trace that are matched at once
FORBIDDEN = 1e9  # cost of a pair outside the window, above any distance of boxes in 0..1


def dtw(one: ArrayLike, other: ArrayLike) -> float:
    """Compute dynamic time warping: the minimum sum of distances over monotonic alignments of all fixations.

    Args:
        one: (K, 2) xy.
        other: (K', 2) xy.

    Returns:
        0 or more, in the unit of the input, lower is better; nan if one path is empty.
    """
    ours, theirs = as_points(one), as_points(other)
    if not len(ours) or not len(theirs):
        return float("nan")
    above = [0.0, *[np.inf] * len(theirs)]
    for distances in cdist(ours, theirs).tolist():
        line = [np.inf]
        for column, distance in enumerate(distances):
            line.append(distance + min(above[column], above[column + 1], line[column]))
        above = line
    return float(above[-1])


def closest_dtw(pred: ArrayLike, humans: Sequence[ArrayLike], width: int, height: int) -> float:
    """Compute the DTW to the closest person, in percent of the canvas's width and height.

    Args:
        pred: (K, 2) xy, px.
        humans: P arrays.
        width: Width of the canvas, px.
        height: Height of the canvas, px.

    Returns:
        0 or more, lower is better; nan if the prediction or all human scanpaths are empty.
    """
    unit = np.array([width, height], float) / 100
    distances = [dtw(as_points(pred) / unit, as_points(human) / unit) for human in humans]
    return float(np.nanmin(distances)) if np.isfinite(distances).any() else float("nan")


def time_delay_embedding(pred: ArrayLike, human: ArrayLike, k: int) -> float:
    """Compute TDE: the mean distance of each predicted window of k fixations to its nearest human one, divided by k.

    Args:
        pred: (K, 2) xy, px.
        human: (K', 2) xy, px.
        k: Length of a window, usually 2..5.

    Returns:
        px, lower is better; nan if one scanpath is shorter than k.
    """
    if k < 1:
        raise ValueError(f"time-delay embedding: windows of {k} fixations, expected at least 1")
    ours, theirs = _windows(as_points(pred), k), _windows(as_points(human), k)
    if not len(ours) or not len(theirs):
        return float("nan")
    return float((cdist(ours, theirs).min(1) / k).mean())


def _windows(points: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    return np.array([points[i : i + k].ravel() for i in range(len(points) - k + 1)], float).reshape(-1, 2 * k)


def local_bipartite_matching(one: ArrayLike, other: ArrayLike, window: int = 1) -> float:
    """Compute LBM: the mean L1 of boxes after the best one-to-one matching within a time window.

    The shorter trace is matched in segments of SEGMENT boxes. In a segment of p boxes against m boxes of the longer
    trace, box i may match boxes (i - window) m / p to (i + 1 + window) m / p, the latter excluded.

    Args:
        one: (T, 4) boxes in 0..1.
        other: (T', 4) boxes in 0..1.
        window: Maximum time offset of a match, in boxes of the shorter trace.

    Returns:
        0..1, lower is better; nan if one trace is empty.
    """
    short, long = sorted((_boxes(one), _boxes(other)), key=len)
    if window < 0:
        raise ValueError(f"LBM: window of {window} boxes, expected at least 0")
    if not len(short):
        return float("nan")
    rate = len(long) / len(short)
    costs = []
    for first in range(0, len(short), SEGMENT):
        piece = short[first : first + SEGMENT]
        partners = long[int(np.floor(first * rate)) : int(np.ceil((first + SEGMENT) * rate))]
        costs.append(_matched_cost(piece, partners, window))
    return float(np.mean(costs))


def _matched_cost(short: NDArray[np.float64], long: NDArray[np.float64], window: int) -> float:
    distances = cdist(short, long, "cityblock") / 4  # (p, m), L1 averaged over the four coordinates
    rate = len(long) / len(short)
    rows, columns = np.indices(distances.shape)
    allowed = (columns >= (rows - window) * rate) & (columns < (rows + 1 + window) * rate)
    pairs = linear_sum_assignment(np.where(allowed, distances, FORBIDDEN))
    return float(distances[pairs].mean())


def _boxes(trace: ArrayLike) -> NDArray[np.float64]:
    boxes = np.asarray(trace, float)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not ((boxes >= 0) & (boxes <= 1)).all():
        raise ValueError(f"LBM: got a trace of shape {boxes.shape}, expected (T, 4) boxes in 0..1")
    return boxes
