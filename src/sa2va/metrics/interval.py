"""Compute bootstrap confidence intervals and paired tests over independent groups of rows.

Flow: rows, a statistic of rows, the group of each row -> bootstrap_interval -> (low, high);
    a difference of two statistics of the same rows -> bootstrap_test -> the difference, its interval and p.
Source: Efron, 1979 (percentile bootstrap); Davison and Hinkley, 1997, section 3.8 (cluster bootstrap).
Shapes: N rows, G groups, R resamples.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

Rows = NDArray[Any] | Sequence[Any]
Groups = NDArray[Any] | Sequence[Hashable]  # of each row: its picture, clip or expression


def bootstrap_interval(
    rows: Rows,
    statistic: Callable[[Any], float] = np.mean,
    groups: Groups | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of a statistic, resampling groups of rows with replacement.

    All rows of a group are drawn together, since several questions about one picture are not independent. An interval
    that misses the estimate is extended to it, since resampled calibration errors are biased upward.

    Args:
        rows: N rows, an array (N, ...) or a sequence.
        statistic: rows -> number.
        groups: N labels; rows with the same label stay together. None = every row is a group.
        seed: random seed.
        num_resamples: R.

    Returns:
        (low, high).

    Raises:
        ValueError: no rows, or not one label per row.
    """
    return _interval(_resample(rows, statistic, groups, seed, num_resamples), float(statistic(rows)))


class Difference(NamedTuple):
    """A difference of two statistics of the same rows, with its interval and p value."""

    value: float
    low: float
    high: float
    p: float  # two-sided: twice the share of resamples with the other sign, at least 1 / R


def bootstrap_test(
    rows: Rows,
    difference: Callable[[Any], float],
    groups: Groups | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Difference:
    """Test the sign of a paired difference of two statistics over resampled groups.

    Args:
        rows: N rows.
        difference: rows -> one statistic minus the other.
        groups, seed, num_resamples: as for `bootstrap_interval`.

    Raises:
        ValueError: as for `bootstrap_interval`.
    """
    drawn, value = _resample(rows, difference, groups, seed, num_resamples), float(difference(rows))
    low, high = _interval(drawn, value)
    p = 2 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    return Difference(value, low, high, min(max(p, 1 / num_resamples), 1.0))


def compare_with_bar(reaches: Callable[[float], bool], value: float, low: float, high: float) -> str:
    """Compare a metric and its interval with a criterion: "reached", "missed", or "about" if its ends disagree."""
    found = {reaches(value), reaches(low), reaches(high)}
    return "about" if len(found) == 2 else "reached" if found == {True} else "missed"


def _interval(drawn: NDArray[np.float64], estimate: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(float(low), estimate), max(float(high), estimate)


def _resample(
    rows: Rows,
    statistic: Callable[[Any], float],
    groups: Groups | None,
    seed: int,
    num_resamples: int,
) -> NDArray[np.float64]:
    """Compute the statistic of R resamples, (R,)."""
    if not len(rows):
        raise ValueError("an interval needs at least one row, got none")
    order, starts, sizes = _lay_out(range(len(rows)) if groups is None else groups, len(rows))
    rng = np.random.default_rng(seed)
    resampled = np.empty(num_resamples)
    for turn in range(num_resamples):
        drawn = rng.integers(0, len(sizes), len(sizes))
        ends = np.cumsum(sizes[drawn])
        places = np.arange(ends[-1]) + np.repeat(starts[drawn] - ends + sizes[drawn], sizes[drawn])
        picked = order[places]
        resampled[turn] = statistic(rows[picked] if isinstance(rows, np.ndarray) else [rows[i] for i in picked])
    return resampled


def _lay_out(groups: Groups | range, num_rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Sort rows by group, groups in order of first appearance.

    Returns:
        (N,) sorted rows, (G,) start of each group, (G,) size of each group.
    """
    if len(groups) != num_rows:
        raise ValueError(f"an interval needs a group for each row, got {len(groups)} groups for {num_rows} rows")
    number: dict[Hashable, int] = {}
    numbers = np.array([number.setdefault(group, len(number)) for group in groups])
    sizes = np.bincount(numbers)
    return np.argsort(numbers, kind="stable"), np.cumsum(sizes) - sizes, sizes
