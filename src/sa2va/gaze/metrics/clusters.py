"""Cluster the fixations of one case by mean shift, with the bandwidth chosen by the saccades.

Flow: all people's fixations of a case -> fit_clusters -> centers -> strings.nearest_symbols.
Source: the procedure of Yang et al., CVPR 2020 (COCO-Search18): choose the bandwidth with the most saccades between
    clusters minus saccades within, per cluster. SS depends on the centers (using only the default bandwidth
    changes it by 0.2), so they are reported with every result. Mean shift follows scikit-learn, vectorized over points.
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
DEFAULT_BANDWIDTH = 20.0  # px of the 512 x 320 canvas, if the estimate is 0 for lack of distinct fixations
TOLERANCE = 1e-3  # of the bandwidth; a point that moves less has converged
MAX_SHIFTS = 300


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Cluster centers with their bandwidth."""

    centers: NDArray[np.float64]  # (C, 2) xy, px
    bandwidth: float  # px, of the mean shift that found them


def fit_clusters(scanpaths: Sequence[ArrayLike], factors: Sequence[float] = FACTORS) -> Clusters:
    """Fit the clusters of one case.

    Args:
        scanpaths: P arrays (K, 2) xy, px: the fixations of each person in order.
        factors: Candidate bandwidths, as factors of the estimate.

    Raises:
        ValueError: there are no fixations.
    """
    paths = [as_points(path) for path in scanpaths]
    points = np.concatenate([*paths, np.zeros((0, 2))])
    if not len(points):
        raise ValueError("clusters: no fixations, expected at least one")
    estimate = float(estimate_bandwidth(points))
    bandwidths = [factor * estimate for factor in factors] if estimate else [DEFAULT_BANDWIDTH]
    fits = [Clusters(centers=mean_shift(points, bandwidth), bandwidth=bandwidth) for bandwidth in bandwidths]
    return max(fits, key=lambda fit: _merit(paths, fit.centers))  # the first on ties


def mean_shift(points: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """Run mean shift with a flat kernel.

    Args:
        points: (K, 2) xy, px.
        bandwidth: Radius of the kernel, px.

    Returns:
        Centers (C, 2), by decreasing number of points in the kernel.
    """
    means, moving, crowds = points.copy(), np.ones(len(points), bool), np.zeros(len(points))
    for _ in range(MAX_SHIFTS + 1):
        near = cdist(means[moving], points) <= bandwidth
        crowds[moving] = near.sum(1)
        moved = near @ points / crowds[moving, None]
        steps = np.linalg.norm(moved - means[moving], axis=1)
        means[moving] = moved
        moving[moving] = steps > TOLERANCE * bandwidth
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
