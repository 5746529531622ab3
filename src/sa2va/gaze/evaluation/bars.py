"""Compare a row of the table with the bars derived from people and the oracle.

Flow: Row of ours, of people, of the oracle -> judge -> Bars, each with its interval.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sa2va.gaze.evaluation.table import Row
from sa2va.metrics.interval import compare_with_bar

HIT = 0.95  # share of samples whose last fixation is on the target


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure with the bar it should reach."""

    name: str
    value: float
    wanted: str
    ok: bool
    low: float = math.nan  # of its 95 % interval
    high: float = math.nan
    open: bool = False  # undecided: the bar lies inside the interval


def judge(row: Row, people: Row, oracle: Row) -> list[Bar]:
    """Compare a row with people and the oracle."""
    hit = _bar("last fixation on the target", row, None, "last hit", f">= {HIT:g}", lambda value: value >= HIT)
    return [
        _near("bits below the oracle", oracle, row, "bits", 0.3),
        hit,
        _near("empty packs, difference", row, people, "empty packs", 0.03),
        _near("sizes of packs, largest difference", row, None, "size gap", 0.03),
        _near("hit curve, mean difference", row, None, "hit curve gap", 0.05),
        _near("SS among samples minus that among people", row, people, "self SS", 0.02),
    ]


def _near(name: str, row: Row, other: Row | None, key: str, limit: float) -> Bar:
    return _bar(name, row, other, key, f"<= {limit:g}", lambda value: abs(value) <= limit)


def _bar(name: str, row: Row, other: Row | None, key: str, wanted: str, reaches: Callable[[float], bool]) -> Bar:
    """Compare a figure, or its difference from another row's, with a bar."""
    value = row.figures[key] - (other.figures[key] if other is not None else 0.0)
    ok, interval = reaches(value), None
    if row.measured is not None and other is None:
        interval = row.measured.interval(key)
    elif row.measured is not None and other is not None and other.measured is not None:
        test = row.measured.minus(other.measured, key)
        interval = None if test is None else (test.low, test.high)
    low, high = interval or (math.nan, math.nan)
    undecided = interval is not None and compare_with_bar(reaches, value, low, high) == "about"
    return Bar(name=name, value=value, wanted=wanted, ok=bool(ok), low=low, high=high, open=undecided)
