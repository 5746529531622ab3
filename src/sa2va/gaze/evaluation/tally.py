"""Represent figures as functions of case weights, for bootstrap intervals and paired tests.

Flow: values of each case -> a Statistic (case weights -> one figure) -> Measured: figures, intervals and paired tests
    by metrics/interval.py, resampling images with all their cases.
Shapes: N cases, E pooled values.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.metrics.interval import Difference, bootstrap_interval, bootstrap_test

NUM_RESAMPLES = 1000

Weights = NDArray[np.float64]  # (N,) multiplicity of each case in a resample
Statistic = Callable[[Weights], float]


def mean_of_cases(values: ArrayLike) -> Statistic:
    """Build the mean over cases, (N,), ignoring nan."""
    row = np.asarray(values, float)
    known = np.isfinite(row)
    filled = np.where(known, row, 0.0)

    def mean(weights: Weights) -> float:
        total = float(weights @ known)
        return float(weights @ filled) / total if total else math.nan

    return mean


def pooled_mean(sums: ArrayLike, counts: ArrayLike) -> Statistic:
    """Build the mean over all values of all cases, from (N,) sums and counts per case."""
    totals, numbers = np.asarray(sums, float), np.asarray(counts, float)

    def mean(weights: Weights) -> float:
        number = float(weights @ numbers)
        return float(weights @ totals) / number if number else math.nan

    return mean


def of_values(statistic: Callable[..., float], owner: ArrayLike, *values: ArrayLike) -> Statistic:
    """Build a statistic of pooled values, each repeated by the multiplicity of its case.

    Args:
        statistic: Function of as many arrays (E,) as there are `values`; nan without values.
        owner: (E,) case index of each value.
        values: Arrays (E,).
    """
    places, rows = np.asarray(owner, int), [np.asarray(row) for row in values]

    def measure(weights: Weights) -> float:
        times = weights[places].astype(int)
        return float(statistic(*(np.repeat(row, times) for row in rows))) if times.any() else math.nan

    return measure


def minus(one: Statistic, other: Statistic) -> Statistic:
    """Build the difference of two statistics of the same cases."""
    return lambda weights: one(weights) - other(weights)


@dataclass(frozen=True)
class Measured:
    """The statistics of a system on N cases."""

    cases: tuple[str, ...]
    groups: tuple[str, ...]  # (N,) image of each case, the unit of the bootstrap
    statistics: dict[str, Statistic] = field(default_factory=dict)

    def figure(self, key: str) -> float:
        """Compute a figure over all cases; nan without data."""
        return float(self.statistics[key](np.ones(len(self.cases)))) if key in self.statistics else math.nan

    @property
    def figures(self) -> dict[str, float]:
        return {key: self.figure(key) for key in self.statistics}

    def interval(self, key: str) -> tuple[float, float] | None:
        """Compute the 95 % bootstrap interval of a figure; None without data or with one image only."""
        if not math.isfinite(self.figure(key)) or len(set(self.groups)) < 2:
            return None
        rows, statistic = np.arange(len(self.cases)), self._drawn(self.statistics[key])
        return bootstrap_interval(rows, statistic, self.groups, num_resamples=NUM_RESAMPLES)

    def minus(self, other: "Measured", key: str) -> Difference | None:
        """Test the difference of a figure from another system's on the same cases; None if not comparable."""
        values = self.figure(key), other.figure(key)
        if self.cases != other.cases or not all(map(math.isfinite, values)) or len(set(self.groups)) < 2:
            return None
        difference = minus(self.statistics[key], other.statistics[key])
        rows = np.arange(len(self.cases))
        return bootstrap_test(rows, self._drawn(difference), self.groups, num_resamples=NUM_RESAMPLES)

    def _drawn(self, statistic: Statistic) -> Callable[[Sequence[int] | NDArray[np.intp]], float]:
        count = len(self.cases)
        return lambda places: statistic(np.bincount(places, minlength=count).astype(float))
