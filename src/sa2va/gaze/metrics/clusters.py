"""Find the places people look at in one case: mean shift over their fixations, bandwidth chosen by their saccades.

Flow: all people's fixations of a case -> fit_clusters -> centres -> strings.nearest_symbols.
Source: the recipe of Yang et al., CVPR 2020 (COCO-Search18): of several bandwidths keep the one with the most
    saccades between clusters, those within them taken off, per cluster. The centres decide the scale of SS (the
    default bandwidth alone moves it by 0.2), so they belong with every result.
Shapes: P people, K fixations of one of them, C clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import MeanShift, estimate_bandwidth

from sa2va.gaze.metrics.strings import as_points, nearest_symbols

FACTORS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # of the estimated bandwidth
USUAL_BANDWIDTH = 20.0  # px of the 512 x 320 canvas, where too few fixations or one place leave the estimate at 0


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
    fits = [
        Clusters(centers=MeanShift(bandwidth=bandwidth).fit(points).cluster_centers_, bandwidth=bandwidth)
        for bandwidth in bandwidths
    ]
    return max(fits, key=lambda fit: _merit(paths, fit.centers))  # the first of equals


def _merit(paths: Sequence[NDArray[np.float64]], centers: NDArray[np.float64]) -> float:
    between = within = 0
    for path in paths:
        symbols = np.array(nearest_symbols(path, centers), int)
        moved = int(np.count_nonzero(symbols[1:] != symbols[:-1]))
        between += moved
        within += max(len(symbols) - 1, 0) - moved
    return (between - within) / len(centers)
