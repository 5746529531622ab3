"""Measure the calibration of confidences, and how errors fall as unsure answers are left out.

Flow: (confidence, outcome) pairs of a benchmark -> ece; calibration_bins and risk_coverage -> charts of the report.
Source: Naeini et al., AAAI 2015 (expected calibration error); Geifman and El-Yaniv, NeurIPS 2017 (risk and coverage).
    Our outcomes may be any number in 0..1, so that a predicted IoU can be compared with the achieved one.
Shapes: E pairs, B bins.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.metrics.interval import SumStatistic, divide

NUM_BINS = 10


class Bins(NamedTuple):
    """Pairs in equal-width bins of confidence."""

    counts: NDArray[np.int64]  # (B,)
    confidences: NDArray[np.float64]  # (B,) sum over the pairs of a bin
    outcomes: NDArray[np.float64]  # (B,) likewise


def calibration_bins(confidences: ArrayLike, outcomes: ArrayLike) -> Bins:
    """Sum confidences and outcomes in equal-width bins of confidence.

    Args:
        confidences: (E,) 0..1, a probability or an expected IoU.
        outcomes: (E,) 0..1.

    Raises:
        ValueError: no pairs, different lengths, or values outside 0..1.
    """
    confidences, outcomes = _pairs(confidences, outcomes)
    bins = _bins(confidences)
    return Bins(
        counts=np.bincount(bins, minlength=NUM_BINS),
        confidences=np.bincount(bins, confidences, NUM_BINS).astype(float),
        outcomes=np.bincount(bins, outcomes, NUM_BINS).astype(float),
    )


def _gap_terms(rows: Any) -> NDArray[np.float64]:
    """Return the difference of each pair in the column of its bin, and a one, (E, B + 1)."""
    pairs = np.asarray(rows, float).reshape(-1, 2)
    confidences, outcomes = _pairs(pairs[:, 0], pairs[:, 1])
    terms = np.zeros((len(pairs), NUM_BINS + 1))
    terms[np.arange(len(pairs)), _bins(confidences)] = confidences - outcomes
    terms[:, -1] = 1
    return terms


calibration_error = SumStatistic(
    terms=_gap_terms, combine=lambda sums: divide(np.abs(sums[:, :-1]).sum(1), sums[:, -1])
)
"""`ece` of rows (E, 2), confidence and outcome."""


def ece(confidences: ArrayLike, outcomes: ArrayLike) -> float:
    """Compute the expected calibration error: mean gap of confidence and outcome over equal-width bins.

    Args:
        confidences, outcomes: as for `calibration_bins`.

    Returns:
        0 (calibrated) .. 1.

    Raises:
        ValueError: as `calibration_bins`.
    """
    return calibration_error(np.stack(_pairs(confidences, outcomes), axis=1))


def risk_coverage(confidences: ArrayLike, outcomes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the risk at each coverage: keep the most confident pairs, and take the mean of 1 - outcome over them.

    Pairs of equal confidence are kept or left out together.

    Args:
        confidences, outcomes: as for `calibration_bins`.

    Returns:
        Coverage, ascending in (0, 1], and risk in 0..1: one value per distinct confidence.

    Raises:
        ValueError: as `calibration_bins`.
    """
    confidences, outcomes = _pairs(confidences, outcomes)
    order = np.argsort(-confidences, kind="stable")
    last = np.flatnonzero(np.append(np.diff(confidences[order]) != 0, True))  # of each distinct confidence
    kept = last + 1
    return kept / confidences.size, np.cumsum(1 - outcomes[order])[last] / kept


def _bins(confidences: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)


def _pairs(confidences: ArrayLike, outcomes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    confidences, outcomes = np.asarray(confidences, float), np.asarray(outcomes, float)
    if confidences.shape != outcomes.shape or not confidences.size:
        raise ValueError(f"calibration needs pairs, got {confidences.size} confidences and {outcomes.size} outcomes")
    if not ((confidences >= 0) & (confidences <= 1) & (outcomes >= 0) & (outcomes <= 1)).all():
        raise ValueError("calibration expects confidences and outcomes in 0..1")
    return confidences, outcomes
