"""Compute bootstrap confidence intervals and paired tests over independent groups of rows.

Flow: rows, a statistic of rows, the group of each row -> bootstrap_interval -> (low, high);
    a difference of two statistics of the same rows -> bootstrap_test -> the difference, its interval and p.
Source: Efron, 1979 (percentile bootstrap); Davison and Hinkley, 1997, section 3.8 (cluster bootstrap).
Shapes: N rows, G groups, R resamples, K terms.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

Rows = NDArray[Any] | Sequence[Any]
Groups = NDArray[Any] | Sequence[Hashable]  # of each row: its picture, clip or expression


@dataclass(frozen=True, kw_only=True)
class SumStatistic:
    """A statistic that depends on its rows only through sums: a mean, a ratio of sums, a mean of such.

    Its resamples cost O(G) each instead of O(N), since every group is summed once.

    Attributes:
        terms: N rows -> (N, K) terms to sum.
        combine: (R, K) sums -> (R,) values; nan where undefined, as without rows.
    """

    terms: Callable[[Any], NDArray[np.float64]]
    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, rows: Rows) -> float:
        """Compute the statistic of N rows."""
        return float(self.combine(self.terms(rows).sum(0)[None])[0])


@dataclass(frozen=True, kw_only=True)
class WeightedStatistic:
    """A statistic that can count a row several times: one that sorts its rows, as average precision does.

    Attributes:
        prepare: N rows -> a function of their weights (N,), how often each row counts -> value.
    """

    prepare: Callable[[Any], Callable[[NDArray[np.int64]], float]]

    def __call__(self, rows: Rows) -> float:
        """Compute the statistic of N rows."""
        return self.prepare(rows)(np.ones(len(rows), np.int64))


Statistic = SumStatistic | WeightedStatistic | Callable[[Any], float]


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide elementwise; nan where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator != 0)


def _with_ones(rows: Any) -> NDArray[np.float64]:
    values = np.asarray(rows, float).reshape(-1)
    return np.stack([values, np.ones_like(values)], axis=1)


def _class_terms(rows: Any) -> NDArray[np.float64]:
    table = np.asarray(rows, float).reshape(-1, 2)
    member = table[:, :1] == np.unique(table[:, 0])  # (N, C)
    return np.concatenate([np.where(member, table[:, 1:], 0.0), member], axis=1)  # (N, 2C)


def _mean_over_classes(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    totals, counts = np.split(sums, 2, axis=1)  # (R, C) each
    there = counts > 0
    return divide(np.where(there, totals / np.maximum(counts, 1), 0.0).sum(1), there.sum(1).astype(float))


mean = SumStatistic(terms=_with_ones, combine=lambda sums: divide(sums[:, 0], sums[:, 1]))
"""Mean of rows (N,)."""

share = SumStatistic(
    terms=lambda rows: np.asarray(rows, float).reshape(-1, 2), combine=lambda sums: divide(sums[:, 0], sums[:, 1])
)
"""Ratio of the sums of rows (N, 2): all parts over all wholes."""

mean_of_classes = SumStatistic(terms=_class_terms, combine=_mean_over_classes)
"""Unweighted mean of the class means of rows (N, 2), class and value; a class without rows is left out."""


def paired(statistic: SumStatistic) -> SumStatistic:
    """Return the difference of a statistic on paired rows (N, 2, ...): that of rows[:, 0] minus that of rows[:, 1]."""

    def terms(rows: Any) -> NDArray[np.float64]:
        return np.concatenate([statistic.terms(rows[:, 0]), statistic.terms(rows[:, 1])], axis=1)

    def combine(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        one, other = np.split(sums, 2, axis=1)
        return statistic.combine(one) - statistic.combine(other)

    return SumStatistic(terms=terms, combine=combine)


def bootstrap_interval(
    rows: Rows,
    statistic: Statistic = mean,
    groups: Groups | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of a statistic, resampling groups of rows with replacement.

    All rows of a group are drawn together, since several questions about one picture are not independent. An interval
    that misses the estimate is extended to it, since resampled calibration errors are biased upward. Resamples without
    a value (nan: no row of the kind that counts was drawn) are left out.

    Args:
        rows: N rows, an array (N, ...) or a sequence.
        statistic: rows -> number. A SumStatistic or a WeightedStatistic is resampled many times faster.
        groups: N labels; rows with the same label stay together. None = every row is a group.
        seed: random seed.
        num_resamples: R.

    Returns:
        (low, high), nan if no resample has a value.

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
    difference: Statistic,
    groups: Groups | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Difference:
    """Test the sign of a paired difference of two statistics over resampled groups.

    Args:
        rows: N rows.
        difference: rows -> one statistic minus the other, such as `paired(mean)` of rows (N, 2).
        groups, seed, num_resamples: as for `bootstrap_interval`.

    Raises:
        ValueError: as for `bootstrap_interval`.
    """
    drawn, value = _resample(rows, difference, groups, seed, num_resamples), float(difference(rows))
    low, high = _interval(drawn, value)
    found = drawn[~np.isnan(drawn)]
    p = 2 * min(float((found <= 0).mean()), float((found >= 0).mean())) if len(found) else 1.0
    return Difference(value, low, high, min(max(p, 1 / num_resamples), 1.0))


def compare_with_bar(reaches: Callable[[float], bool], value: float, low: float, high: float) -> str:
    """Compare a metric and its interval with a criterion: "reached", "missed", or "about" if its ends disagree."""
    found = {reaches(value), reaches(low), reaches(high)}
    return "about" if len(found) == 2 else "reached" if found == {True} else "missed"


def _interval(drawn: NDArray[np.float64], estimate: float) -> tuple[float, float]:
    found = drawn[~np.isnan(drawn)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(float(low), estimate), max(float(high), estimate)


def _resample(
    rows: Rows, statistic: Statistic, groups: Groups | None, seed: int, num_resamples: int
) -> NDArray[np.float64]:
    """Compute the statistic of R resamples, (R,)."""
    if not len(rows):
        raise ValueError("an interval needs at least one row, got none")
    owner, num_groups = _number(groups, len(rows))
    draws = _draw(num_groups, seed, num_resamples)
    if isinstance(statistic, SumStatistic):
        # Take the sums of drawn groups column by column, so that equal columns of a pair stay equal to the last bit.
        sums = np.stack([np.bincount(owner, column, num_groups) for column in statistic.terms(rows).T])  # (K, G)
        return statistic.combine(np.stack([sums.take(drawn, axis=1).sum(1) for drawn in draws]))
    if isinstance(statistic, WeightedStatistic):
        value_of = statistic.prepare(rows)
        return np.array([value_of(np.bincount(drawn, minlength=num_groups)[owner]) for drawn in draws])
    sizes = np.bincount(owner)
    order, starts = np.argsort(owner, kind="stable"), np.cumsum(sizes) - sizes
    resampled = []
    for drawn in draws:
        ends = np.cumsum(sizes[drawn])
        picked = order[np.arange(ends[-1]) + np.repeat(starts[drawn] - ends + sizes[drawn], sizes[drawn])]
        resampled.append(statistic(rows[picked] if isinstance(rows, np.ndarray) else [rows[i] for i in picked]))
    return np.array(resampled, float)


def _draw(num_groups: int, seed: int, num_resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield R draws of G groups with replacement, (G,) each."""
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield rng.integers(0, num_groups, num_groups)


def _number(groups: Groups | None, num_rows: int) -> tuple[NDArray[np.intp], int]:
    """Number the groups in order of first appearance.

    Returns:
        (N,) group of each row, and G.
    """
    if groups is None:
        return np.arange(num_rows), num_rows
    if len(groups) != num_rows:
        raise ValueError(f"an interval needs a group for each row, got {len(groups)} groups for {num_rows} rows")
    number: dict[Hashable, int] = {}
    owner = np.array([number.setdefault(group, len(number)) for group in groups])
    return owner, len(number)
