"""Information gain of a fixation model: bits per fixation above a baseline density.

Flow: log densities of a model and of a baseline at human fixations -> bits_per_fixation; fixations of other images
    -> center_bias.
Source: Kümmerer et al., PNAS 2015 (information gain).
Shapes: K fixations, H W canvas.
"""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.metrics.maps import fixation_map


def bits_per_fixation(log_density: ArrayLike, log_baseline: ArrayLike) -> float:
    """Compute the information gain: mean log2 ratio of the model's to the baseline's density at human fixations.

    Args:
        log_density: (K,) natural log of the model's density per px^2, -inf for density 0.
        log_baseline: (K,) natural log of the baseline's density, finite.

    Returns:
        bits, higher is better; 0 for the baseline itself.
    """
    ours, base = np.asarray(log_density, float), np.asarray(log_baseline, float)
    if ours.shape != base.shape or not ours.size:
        raise ValueError(
            f"bits per fixation: {ours.size} and {base.size} log densities, expected equal counts, at least 1"
        )
    if not np.isfinite(base).all() or np.isnan(ours).any():
        raise ValueError("bits per fixation: log densities must be numbers, and finite for the baseline")
    return float((ours - base).mean() / math.log(2))


def uniform_log_density(num_fixations: int, width: float, height: float) -> NDArray[np.float64]:
    """Compute the uniform baseline.

    Returns:
        (K,) natural log of the density per px^2.
    """
    return np.full(num_fixations, -math.log(width * height))


def center_bias(
    points: ArrayLike, width: int, height: int, sigma: float = 20.0, uniform_share: float = 0.01
) -> NDArray[np.float64]:
    """Estimate the center bias: the density of fixations over other images.

    Args:
        points: (K, 2) xy, px; fixations of images that are not scored.
        width: W of the canvas, px.
        height: H of the canvas, px.
        sigma: SD of the Gaussian kernel, px.
        uniform_share: Uniform share of the density, 0..1, so that no position has density 0.

    Returns:
        (H, W) density per px^2, sums to 1.
    """
    if not 0 < uniform_share <= 1:
        raise ValueError(f"center bias: uniform share {uniform_share}, expected more than 0 and at most 1")
    counts = fixation_map(points, width, height, counts=True)
    if not counts.any():
        raise ValueError("center bias: no fixations, expected at least one of another image")
    smooth = cv2.GaussianBlur(counts, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).astype(float)
    return (1 - uniform_share) * smooth / smooth.sum() + uniform_share / (width * height)
