"""Compare the statistics of a dataset with published or recorded ones.

Flow: check of an extension -> compare -> Check -> apps/commands/data.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Known statistic with its tolerance."""

    value: float
    tolerance: float


@dataclass(frozen=True)
class Row:
    """Measured and expected statistic; NaN if the dataset has nothing to measure."""

    name: str
    value: float
    expected: Expected

    @property
    def passed(self) -> bool:
        return abs(self.value - self.expected.value) <= self.expected.tolerance


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of checking a dataset.

    Attributes:
        figures: all measured statistics, by name.
        rows: the statistics with a known value.
        origin: source of the known values, in a sentence.
    """

    figures: Mapping[str, float]
    rows: tuple[Row, ...]
    origin: str

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)


def compare(figures: Mapping[str, float], expected: Mapping[str, Expected]) -> tuple[Row, ...]:
    """Pair known statistics with measured ones; a missing one becomes NaN, which fails."""
    return tuple(Row(name, figures.get(name, float("nan")), known) for name, known in expected.items())
