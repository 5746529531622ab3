"""Summarize referring segmentation over expressions: cIoU, gIoU, precision at an IoU, N-acc and T-acc.

Flow: iou.overlap per expression -> rows -> a statistic below, with its interval by interval.py.
Source: RefCOCO practice as in LAVT, arXiv:2112.02244 (cIoU, mIoU, Pr@X); GRES, arXiv:2306.00968 (gIoU, N-acc, T-acc);
    LISA, arXiv:2308.00692 (gIoU and cIoU of ReasonSeg).
Shapes: E expressions; a row is (intersection, union, predicted area, true area), px. Only N-acc, T-acc and
    `target_precision_at` read the areas, so that the other statistics take rows of (intersection, union) as well.

An expression without a target has a true area of 0. An empty prediction is right for it: U = 0, IoU 1. Any other
prediction has IoU 0 and adds its area to the union of cIoU.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.interval import SumStatistic, divide
from sa2va.metrics.iou import ratio

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)  # of Pr@X


def _table(rows: Any) -> NDArray[np.float64]:
    return np.asarray(rows, float).reshape(len(rows), -1)


def _ious(rows: Any) -> NDArray[np.float64]:
    table = _table(rows)
    return ratio(table[:, 0], table[:, 1])


def _mean_over(value: NDArray[Any], counted: NDArray[Any]) -> NDArray[np.float64]:
    """Return the terms of a mean over the rows that count, (E, 2)."""
    return np.stack([np.where(counted, value, 0.0), counted], axis=1).astype(float)


def _divide_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return divide(sums[:, 0], sums[:, 1])


cumulative_iou = SumStatistic(
    terms=lambda rows: _table(rows)[:, :2], combine=lambda sums: ratio(sums[:, 0], sums[:, 1])
)
"""cIoU: total intersection over total union."""

mean_iou = SumStatistic(terms=lambda rows: _mean_over(_ious(rows), np.ones(len(rows), bool)), combine=_divide_sums)
"""gIoU, which RefCOCO papers call mIoU: the mean IoU over expressions, 1 where both masks are empty."""


def precision_at(threshold: float) -> SumStatistic:
    """Return Pr@X: the share of expressions with an IoU of at least the threshold, 0..1."""
    return SumStatistic(
        terms=lambda rows: _mean_over(_ious(rows) >= threshold, np.ones(len(rows), bool)), combine=_divide_sums
    )


def target_precision_at(threshold: float) -> SumStatistic:
    """Return Pr@X as in GRES: over the expressions that have a target."""
    return SumStatistic(
        terms=lambda rows: _mean_over(_ious(rows) >= threshold, _table(rows)[:, 3] > 0), combine=_divide_sums
    )


def _right_presence(rows: Any, absent: bool) -> NDArray[np.float64]:
    pred, target = _table(rows)[:, 2], _table(rows)[:, 3]
    return _mean_over((pred == 0) == absent, (target == 0) == absent)


no_target_accuracy = SumStatistic(terms=lambda rows: _right_presence(rows, True), combine=_divide_sums)
"""N-acc: the share of expressions without a target that get an empty mask; nan without such expressions."""

target_accuracy = SumStatistic(terms=lambda rows: _right_presence(rows, False), combine=_divide_sums)
"""T-acc: the share of expressions with a target that get a mask; nan without such expressions."""
