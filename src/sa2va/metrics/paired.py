"""Test the difference of a statistic between two systems that answered the same pictures or clips.

Flow: the rows of a figure for each system (Table) -> difference_test -> difference, 95 % interval and p.
    Each resample draws the same groups for both. Rows of a group may differ in number, as counts of predictions do.
Source: Efron and Tibshirani, 1993, section 16.4 (bootstrap of a paired difference); Koehn, EMNLP 2004 (the same for a
    corpus metric of two systems).
Shapes: N rows, K terms, R resamples; A and B are the first and the second system.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.interval import (
    Difference,
    Groups,
    Rows,
    Statistic,
    SumStatistic,
    WeightedStatistic,
    bootstrap_test,
)


class Table(NamedTuple):
    """What a figure is computed from.

    Attributes:
        rows: N rows.
        statistic: rows -> number.
        groups: N labels, of the picture or clip of each row; None = the place of the row.
    """

    rows: Rows
    statistic: Statistic
    groups: Groups | None = None

    @property
    def labels(self) -> list[Any]:
        return list(range(len(self.rows)) if self.groups is None else self.groups)


def difference_test(first: Table, second: Table, *, seed: int = 0, num_resamples: int = 1000) -> Difference:
    """Test the second statistic minus the first, over resampled groups of both tables.

    With few groups a bootstrap is too sure: p is at least 2 / 2^G for G groups, the least that the signs of G
    differences allow.

    Raises:
        ValueError: a table without rows, tables without groups and of different lengths, or a single group.
    """
    for table in (first, second):
        if not len(table.rows):
            raise ValueError("a difference needs rows of both systems, got none of one")
    if (first.groups is None or second.groups is None) and len(first.rows) != len(second.rows):
        raise ValueError(
            f"{len(first.rows)} and {len(second.rows)} rows cannot be paired by their place; expected groups"
        )
    places = np.arange(len(first.rows) + len(second.rows))  # of A's rows, then of B's
    groups = first.labels + second.labels
    num_groups = len(set(groups))
    if num_groups < 2:
        raise ValueError("a single picture or clip tells nothing about others")
    found = bootstrap_test(places, _difference(first, second), groups, seed, num_resamples)
    return found._replace(p=max(found.p, 2.0 ** (1 - num_groups)))


def _difference(first: Table, second: Table) -> Statistic:
    """Return the statistic of places whose value is that of B minus that of A."""
    cut = len(first.rows)
    if isinstance(first.statistic, SumStatistic) and isinstance(second.statistic, SumStatistic):
        return _sum_difference(first.statistic, second.statistic, first.rows, second.rows)
    if isinstance(first.statistic, WeightedStatistic) and isinstance(second.statistic, WeightedStatistic):
        before, after = first.statistic.prepare(first.rows), second.statistic.prepare(second.rows)
        return WeightedStatistic(prepare=lambda _: lambda weights: after(weights[cut:]) - before(weights[:cut]))

    def difference(places: NDArray[np.int64]) -> float:
        before = _value(first, places[places < cut])
        return _value(second, places[places >= cut] - cut) - before

    return difference


def _sum_difference(before: SumStatistic, after: SumStatistic, rows: Rows, others: Rows) -> SumStatistic:
    left, right = before.terms(rows), after.terms(others)  # (N_A, K_A), (N_B, K_B)
    terms = np.zeros((len(left) + len(right), left.shape[1] + right.shape[1]))
    terms[: len(left), : left.shape[1]] = left
    terms[len(left) :, left.shape[1] :] = right
    width = left.shape[1]
    return SumStatistic(
        terms=lambda places: terms[places],
        combine=lambda sums: after.combine(sums[:, width:]) - before.combine(sums[:, :width]),
    )


def _value(table: Table, places: NDArray[np.int64]) -> float:
    """Compute the statistic of some rows; nan without rows."""
    if not len(places):
        return float("nan")
    statistic: Callable[[Any], float] = table.statistic
    return float(statistic(_take(table.rows, places)))


def _take(rows: Rows, places: Sequence[int] | NDArray[np.int64]) -> Any:
    return rows[places] if isinstance(rows, np.ndarray) else [rows[place] for place in places]
