"""Compare distributions of saccade amplitude, saccade direction and fixation duration.

Flow: scanpaths -> amplitudes, angles, durations, pooled -> kl_divergence, earth_mover, circular_earth_mover.
Source: Rubner et al., IJCV 2000 (earth mover's distance); Rabin et al., 2011 (on a circle).
Shapes: K fixations, V W pooled values of people and of a model, B bins.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

from sa2va.gaze.metrics.strings import as_points

AMPLITUDE_EDGES = np.array([0, 10, 20, 30, 40, 60, 80, 100, 130, 160, 200, 250, 350, 610], float)  # px of 512 x 320
DURATION_EDGES = np.array([0, 50, 100, 150, 200, 250, 300, 350, 400, 500, 600, 800, 1200, 5000], float)  # ms
WAITING = 20.0  # px of 512 x 320, two degrees of visual angle; shorter saccades count as waiting


def amplitudes(points: ArrayLike) -> NDArray[np.float64]:
    """Compute saccade amplitudes.

    Args:
        points: (K, 2) xy, px.

    Returns:
        (K - 1,) px; (0,) for fewer than two fixations.
    """
    return np.linalg.norm(np.diff(as_points(points), axis=0), axis=1)


def angles(points: ArrayLike) -> NDArray[np.float64]:
    """Compute saccade directions: 0 right, 90 down, 180 left, -90 up; saccades of length 0 are left out.

    Args:
        points: (K, 2) xy, px.

    Returns:
        At most (K - 1,) degrees.
    """
    steps = np.diff(as_points(points), axis=0)
    steps = steps[np.any(steps != 0, axis=1)]
    return np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))


def waiting_share(saccades: ArrayLike) -> float:
    """Compute the share of saccades shorter than WAITING; nan without saccades.

    Args:
        saccades: (V,) amplitudes, px of 512 x 320.
    """
    values = np.asarray(saccades, float)
    return float((values < WAITING).mean()) if values.size else float("nan")


def kl_divergence(human: ArrayLike, pred: ArrayLike, edges: ArrayLike, smoothing: float = 0.5) -> float:
    """Compute the Kullback-Leibler divergence of the model's histogram from people's.

    Args:
        human: (V,) values.
        pred: (W,) values.
        edges: (B + 1,) increasing; values beyond the ends count in the first or last bin.
        smoothing: Pseudocount per bin of both histograms, which keeps the divergence finite.

    Returns:
        nats, at least 0, lower is better.
    """
    return kl_of_counts(*(histogram(values, edges) for values in (human, pred)), smoothing)


def kl_of_counts(human: ArrayLike, pred: ArrayLike, smoothing: float = 0.5) -> float:
    """Compute the smoothed Kullback-Leibler divergence of two histograms (B,)."""
    theirs, ours = (np.asarray(counts, float) + smoothing for counts in (human, pred))
    theirs, ours = theirs / theirs.sum(), ours / ours.sum()
    return float(np.sum(theirs * np.log(theirs / ours)))


def earth_mover(human: ArrayLike, pred: ArrayLike) -> float:
    """Compute the earth mover's distance of two distributions.

    Args:
        human: (V,).
        pred: (W,).

    Returns:
        In the unit of the values, lower is better.
    """
    return float(wasserstein_distance(_values(human), _values(pred)))


def weighted_earth_mover(
    human: ArrayLike, pred: ArrayLike, human_owner: ArrayLike, pred_owner: ArrayLike
) -> Callable[[NDArray[np.float64]], float]:
    """Build the earth mover's distance as a function of case weights, for bootstrap resampling.

    Args:
        human: (V,).
        pred: (W,).
        human_owner: (V,) index of the case that each value belongs to.
        pred_owner: (W,).

    Returns:
        A function of the case weights; with all weights 1 it equals `earth_mover`.
    """
    values = np.concatenate([_values(human), _values(pred)])
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    ours, theirs = np.asarray(pred_owner, int), np.asarray(human_owner, int)

    def move(weights: NDArray[np.float64]) -> float:
        one, other = weights[theirs], weights[ours]
        flow = np.concatenate([one / one.sum(), -other / other.sum()])[order].cumsum()
        return float(np.abs(flow[:-1]) @ gaps)

    return move


def circular_earth_mover(human: ArrayLike, pred: ArrayLike, num_bins: int = 360) -> float:
    """Compute the earth mover's distance of directions on the circle.

    Args:
        human: (V,) degrees.
        pred: (W,) degrees.
        num_bins: B, number of equal bins.

    Returns:
        degrees, 0..180, lower is better.
    """
    edges = np.linspace(-180, 180, num_bins + 1)
    turned = [(_values(values) + 180) % 360 - 180 for values in (human, pred)]
    shares = [counts / counts.sum() for counts in (histogram(values, edges) for values in turned)]
    flow = np.cumsum(shares[0] - shares[1])  # through each bin border
    return float(np.abs(flow - np.median(flow)).sum() * 360 / num_bins)


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, float).reshape(-1)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"distribution: {array.size} values, expected at least one and all finite")
    return array


def histogram(values: ArrayLike, edges: ArrayLike) -> NDArray[np.float64]:
    """Count values per bin, (B,); values beyond the ends count in the first or last bin."""
    borders = np.asarray(edges, float)
    if borders.ndim != 1 or len(borders) < 2 or not (np.diff(borders) > 0).all():
        raise ValueError(f"distribution: bin edges {borders.tolist()!s:.60}, expected at least two in increasing order")
    return np.histogram(np.clip(_values(values), borders[0], borders[-1]), borders)[0].astype(float)
