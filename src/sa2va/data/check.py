"""Hold the figures of a dataset against those that are known of it.

Flow: a check of an extension -> compare -> Check -> apps/commands/data.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """A known figure and how far that of a correct copy may lie from it."""

    value: float
    tolerance: float


@dataclass(frozen=True)
class Row:
    """One figure beside the expected one; NaN where the dataset has nothing to measure."""

    name: str
    value: float
    expected: Expected

    @property
    def passed(self) -> bool:
        return abs(self.value - self.expected.value) <= self.expected.tolerance


@dataclass(frozen=True, kw_only=True)
class Check:
    """Outcome of checking a dataset.

    Attributes:
        figures: all that was measured, by name.
        rows: the figures that are known.
        origin: source of the known figures, in a sentence.
    """

    figures: Mapping[str, float]
    rows: tuple[Row, ...]
    origin: str

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)


def compare(figures: Mapping[str, float], expected: Mapping[str, Expected]) -> tuple[Row, ...]:
    """Pair known figures with measured ones; a missing one is NaN, which fails."""
    return tuple(Row(name, figures.get(name, float("nan")), known) for name, known in expected.items())
