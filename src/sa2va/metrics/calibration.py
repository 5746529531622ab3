"""Measure how far a confidence lies from what comes true.

Flow: (confidence, outcome) pairs of a benchmark -> ece.
Source: Naeini et al., AAAI 2015 (expected calibration error), with an outcome that may be a number, not only
    yes or no, so that a predicted IoU can be held against the IoU that was reached.
Shapes: E pairs.
"""

import numpy as np
from numpy.typing import ArrayLike


def ece(confidences: ArrayLike, outcomes: ArrayLike, num_bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and outcome over bins of equal width, weighted by size.

    Args:
        confidences: (E,) 0..1, a probability or an expected IoU.
        outcomes: (E,) 0..1, what came true.
        num_bins: equal parts of 0..1.

    Returns:
        0 (calibrated) .. 1.

    Raises:
        ValueError: no pairs, different lengths, or values outside 0..1.
    """
    confidences, outcomes = np.asarray(confidences, float), np.asarray(outcomes, float)
    if confidences.shape != outcomes.shape or not confidences.size:
        raise ValueError(f"calibration needs pairs, got {confidences.size} confidences and {outcomes.size} outcomes")
    if not ((confidences >= 0) & (confidences <= 1) & (outcomes >= 0) & (outcomes <= 1)).all():
        raise ValueError("calibration expects confidences and outcomes in 0..1")
    bins = np.minimum((confidences * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=confidences - outcomes, minlength=num_bins)  # sum of differences per bin
    return float(np.abs(gaps).sum() / confidences.size)
