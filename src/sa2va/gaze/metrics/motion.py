"""Compare how eyes move, whatever they look at: distributions of saccade size, direction and fixation duration.

Flow: scanpaths -> amplitudes, angles, durations, pooled -> kl_divergence, earth_mover, circular_earth_mover.
Source: Rubner et al., IJCV 2000 (earth mover's distance); Rabin et al., 2011 (on a circle).
Shapes: K fixations, V W pooled values of people and of a model, B bins.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

from sa2va.gaze.metrics.strings import as_points

AMPLITUDE_EDGES = np.array([0, 10, 20, 30, 40, 60, 80, 100, 130, 160, 200, 250, 350, 610], float)  # px of 512 x 320
ANGLE_EDGES = np.linspace(-180, 180, 13)  # degrees
DURATION_EDGES = np.array([0, 50, 100, 150, 200, 250, 300, 350, 400, 500, 600, 800, 1200, 5000], float)  # ms
WAITING = 20.0  # px of 512 x 320, two degrees; shorter saccades stay with what is looked at


def amplitudes(points: ArrayLike) -> NDArray[np.float64]:
    """Length of each saccade.

    Args:
        points: (K, 2) xy, px.

    Returns:
        (K - 1,) px; (0,) for fewer than two fixations.
    """
    return np.linalg.norm(np.diff(as_points(points), axis=0), axis=1)


def angles(points: ArrayLike) -> NDArray[np.float64]:
    """Direction of each saccade: 0 right, 90 down, 180 left, -90 up; saccades of no length are left out.

    Args:
        points: (K, 2) xy, px.

    Returns:
        At most (K - 1,) degrees.
    """
    steps = np.diff(as_points(points), axis=0)
    steps = steps[np.any(steps != 0, axis=1)]
    return np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))


def waiting_share(saccades: ArrayLike) -> float:
    """Share of saccades too short to leave what is looked at; nan when there is none.

    Args:
        saccades: (V,) amplitudes, px of 512 x 320.
    """
    values = np.asarray(saccades, float)
    return float((values < WAITING).mean()) if values.size else float("nan")


def kl_divergence(human: ArrayLike, pred: ArrayLike, edges: ArrayLike, smoothing: float = 0.5) -> float:
    """Kullback-Leibler divergence of the model's histogram from people's.

    Args:
        human: (V,) values.
        pred: (W,) values.
        edges: (B + 1,) rising; values beyond the ends count in the first or last bin.
        smoothing: values added to each bin of both, so that a bin the model never met costs, but not everything.

    Returns:
        nats, at least 0, lower is better.
    """
    ours, theirs = (_shares(values, edges, smoothing) for values in (pred, human))
    return float(np.sum(theirs * np.log(theirs / ours)))


def earth_mover(human: ArrayLike, pred: ArrayLike) -> float:
    """How far values must move, on average, to turn one distribution into the other.

    Args:
        human: (V,).
        pred: (W,).

    Returns:
        In the unit of the values, lower is better.
    """
    return float(wasserstein_distance(_values(human), _values(pred)))


def circular_earth_mover(human: ArrayLike, pred: ArrayLike, num_bins: int = 360) -> float:
    """The same for directions, where 180 and -180 degrees are one.

    Args:
        human: (V,) degrees.
        pred: (W,) degrees.
        num_bins: B equal parts of the circle.

    Returns:
        degrees, 0..180, lower is better.
    """
    edges = np.linspace(-180, 180, num_bins + 1)
    turned = [(_values(values) + 180) % 360 - 180 for values in (human, pred)]
    flow = np.cumsum(_shares(turned[0], edges, 0.0) - _shares(turned[1], edges, 0.0))  # through each border
    return float(np.abs(flow - np.median(flow)).sum() * 360 / num_bins)


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, float).reshape(-1)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"distribution: {array.size} values, expected at least one and all finite")
    return array


def _shares(values: ArrayLike, edges: ArrayLike, smoothing: float) -> NDArray[np.float64]:
    borders = np.asarray(edges, float)
    if borders.ndim != 1 or len(borders) < 2 or not (np.diff(borders) > 0).all():
        raise ValueError(f"distribution: bin edges {borders.tolist()!s:.60}, expected at least two that rise")
    counts = np.histogram(np.clip(_values(values), borders[0], borders[-1]), borders)[0] + smoothing
    return counts / counts.sum()
