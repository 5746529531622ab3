"""Keep what was scored case by case, so that a figure can be had of any draw of cases, and said how sure it is.

Flow: numbers of each case -> a Statistic (how often each case counts -> one figure) -> Measured: figures, their
    intervals, paired tests of two rows; all by metrics/interval.py, cases about one picture drawn together.
Shapes: N cases, E pooled values.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.metrics.interval import Difference, bootstrap_interval, bootstrap_test

NUM_RESAMPLES = 1000

Weights = NDArray[np.float64]  # (N,) how often each case counts
Statistic = Callable[[Weights], float]


def mean_of_cases(values: ArrayLike) -> Statistic:
    """Mean over cases, (N,); those without a value (nan) are left out."""
    row = np.asarray(values, float)
    known = np.isfinite(row)
    filled = np.where(known, row, 0.0)

    def mean(weights: Weights) -> float:
        total = float(weights @ known)
        return float(weights @ filled) / total if total else math.nan

    return mean


def pooled_mean(sums: ArrayLike, counts: ArrayLike) -> Statistic:
    """Mean of values that cases have different numbers of, from the (N,) sums and counts of each case."""
    totals, numbers = np.asarray(sums, float), np.asarray(counts, float)

    def mean(weights: Weights) -> float:
        number = float(weights @ numbers)
        return float(weights @ totals) / number if number else math.nan

    return mean


def of_values(statistic: Callable[..., float], owner: ArrayLike, *values: ArrayLike) -> Statistic:
    """A statistic of pooled values, each repeated as often as its case counts.

    Args:
        statistic: takes as many rows (E,) as there are `values`; nan where none is left.
        owner: (E,) number of the case of each value.
        values: rows (E,).
    """
    places, rows = np.asarray(owner, int), [np.asarray(row) for row in values]

    def measure(weights: Weights) -> float:
        times = weights[places].astype(int)
        return float(statistic(*(np.repeat(row, times) for row in rows))) if times.any() else math.nan

    return measure


def minus(one: Statistic, other: Statistic) -> Statistic:
    """One figure less another of the same cases."""
    return lambda weights: one(weights) - other(weights)


@dataclass(frozen=True)
class Measured:
    """What a system did on N cases."""

    cases: tuple[str, ...]
    groups: tuple[str, ...]  # (N,) picture of each case
    statistics: dict[str, Statistic] = field(default_factory=dict)

    def figure(self, key: str) -> float:
        """A figure of all cases; nan where there is nothing to count."""
        return float(self.statistics[key](np.ones(len(self.cases)))) if key in self.statistics else math.nan

    @property
    def figures(self) -> dict[str, float]:
        return {key: self.figure(key) for key in self.statistics}

    def interval(self, key: str) -> tuple[float, float] | None:
        """95 % interval of a figure, pictures drawn again; None where there is no figure, or one picture only."""
        if not math.isfinite(self.figure(key)) or len(set(self.groups)) < 2:
            return None
        rows, statistic = np.arange(len(self.cases)), self._drawn(self.statistics[key])
        return bootstrap_interval(rows, statistic, self.groups, num_resamples=NUM_RESAMPLES)

    def less(self, other: "Measured", key: str) -> Difference | None:
        """Test this figure less that of another system on the same cases; None where they cannot be compared."""
        values = self.figure(key), other.figure(key)
        if self.cases != other.cases or not all(map(math.isfinite, values)) or len(set(self.groups)) < 2:
            return None
        difference = minus(self.statistics[key], other.statistics[key])
        rows = np.arange(len(self.cases))
        return bootstrap_test(rows, self._drawn(difference), self.groups, num_resamples=NUM_RESAMPLES)

    def _drawn(self, statistic: Statistic) -> Callable[[Sequence[int] | NDArray[np.intp]], float]:
        count = len(self.cases)
        return lambda places: statistic(np.bincount(places, minlength=count).astype(float))
