"""Measure the calibration of confidences.

Flow: (confidence, outcome) pairs of a benchmark -> ece.
Source: Naeini et al., AAAI 2015 (expected calibration error). Our outcomes may be any number in 0..1, so that
    a predicted IoU can be compared with the achieved one.
Shapes: E pairs.
"""

import numpy as np
from numpy.typing import ArrayLike

NUM_BINS = 10


def ece(confidences: ArrayLike, outcomes: ArrayLike) -> float:
    """Compute the expected calibration error: mean gap of confidence and outcome over equal-width bins.

    Args:
        confidences: (E,) 0..1, a probability or an expected IoU.
        outcomes: (E,) 0..1.

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
    bins = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=confidences - outcomes, minlength=NUM_BINS)  # sum of differences per bin
    return float(np.abs(gaps).sum() / confidences.size)
