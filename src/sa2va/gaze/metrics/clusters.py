"""Find the places people look at in one case: mean shift over their fixations, bandwidth chosen by their saccades.

Flow: all people's fixations of a case -> fit_clusters -> centres -> strings.nearest_symbols.
Source: the recipe of Yang et al., CVPR 2020 (COCO-Search18): of several bandwidths keep the one with the most
    saccades between clusters, those within them taken off, per cluster. The centres decide the scale of SS (the
    default bandwidth alone moves it by 0.2), so they belong with every result. Mean shift is that of scikit-learn
    with all points moved at once: a test set of hundreds of cases in seconds.
Shapes: P people, K fixations of one of them, C clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import estimate_bandwidth

from sa2va.gaze.metrics.strings import as_points, nearest_symbols

FACTORS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # of the estimated bandwidth
USUAL_BANDWIDTH = 20.0  # px of the 512 x 320 canvas, where too few fixations or one place leave the estimate at 0
AT_REST = 1e-3  # of the bandwidth; a point that moves no further has arrived
MAX_SHIFTS = 300


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Centres and how they were found."""

    centers: NDArray[np.float64]  # (C, 2) xy, px
    bandwidth: float  # px, of the mean shift that found them


def fit_clusters(scanpaths: Sequence[ArrayLike], factors: Sequence[float] = FACTORS) -> Clusters:
    """Fit the clusters of one case.

    Args:
        scanpaths: P arrays (K, 2) xy, px: the fixations of each person in order.
        factors: of the estimated bandwidth to try.

    Raises:
        ValueError: nobody fixated anything.
    """
    paths = [as_points(path) for path in scanpaths]
    points = np.concatenate([*paths, np.zeros((0, 2))])
    if not len(points):
        raise ValueError("clusters: no fixations, expected at least one person with at least one")
    estimate = float(estimate_bandwidth(points))
    bandwidths = [factor * estimate for factor in factors] if estimate else [USUAL_BANDWIDTH]
    fits = [Clusters(centers=mean_shift(points, bandwidth), bandwidth=bandwidth) for bandwidth in bandwidths]
    return max(fits, key=lambda fit: _merit(paths, fit.centers))  # the first of equals


def mean_shift(points: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """Move every point to the mean of those around it until it rests, and keep one of those that rest together.

    Args:
        points: (K, 2) xy, px.
        bandwidth: px; how far around reaches.

    Returns:
        (C, 2), those with the most points around them first.
    """
    means, moving, crowds = points.copy(), np.ones(len(points), bool), np.zeros(len(points))
    for _ in range(MAX_SHIFTS + 1):
        near = cdist(means[moving], points) <= bandwidth
        crowds[moving] = near.sum(1)
        moved = near @ points / crowds[moving, None]
        steps = np.linalg.norm(moved - means[moving], axis=1)
        means[moving] = moved
        moving[moving] = steps > AT_REST * bandwidth
        if not moving.any():
            break
    order = np.lexsort((means[:, 1], means[:, 0], crowds))[::-1]
    centers: list[NDArray[np.float64]] = []
    for mean in means[order]:
        if all(np.linalg.norm(mean - center) > bandwidth for center in centers):
            centers.append(mean)
    return np.array(centers)


def _merit(paths: Sequence[NDArray[np.float64]], centers: NDArray[np.float64]) -> float:
    between = within = 0
    for path in paths:
        symbols = np.array(nearest_symbols(path, centers), int)
        moved = int(np.count_nonzero(symbols[1:] != symbols[:-1]))
        between += moved
        within += max(len(symbols) - 1, 0) - moved
    return (between - within) / len(centers)
