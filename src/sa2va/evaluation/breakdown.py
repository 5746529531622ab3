"""Describe the items of a benchmark, and compute its figures for each value of a fact.

Flow: expression and truth of an item -> facts_of -> Record["facts"]; records -> split_by_facts -> figures of each part
    -> report.html, compare.py. A fact describes the item, never the answer, so that two models are split alike.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sa2va.evaluation.benchmark import Benchmark, Figure, Record, measure, values_only

FACTS = "facts"  # key of a Record: fact -> value, both texts
MAX_VALUES = 12  # of one fact; more values, such as clip names, make no table
SMALL, LARGE = 0.02, 0.10  # share of the picture
POSITION_WORDS = frozenset(
    "above ahead back background behind below beneath beside between bottom center close closer closest corner"
    " far farther farthest first foreground front furthest last left leftmost lower lowest middle near nearer nearest"
    " next right rightmost second side third top under upper uppermost".split()
)

Facts = dict[str, str]


def facts_of(
    expression: str | None = None, *, num_targets: int | None = None, area: float | None = None, **more: str | None
) -> Facts:
    """Describe an item by what figures are broken down by; what is None is left out.

    Args:
        expression: text that refers.
        num_targets: number of objects that it refers to.
        area: share of the picture that the targets cover, 0..1; of a clip, of its frames with a target.
        more: facts of a dataset, such as `kind` or `reasoning`.
    """
    facts: Facts = {name: value for name, value in more.items() if value is not None}
    if expression is not None:
        words = re.findall(r"[\w'-]+", expression.lower())
        facts["words"] = _length(len(words))
        facts["position words"] = "with" if POSITION_WORDS.intersection(words) else "without"
    if num_targets is not None:
        facts["targets"] = ("none", "one")[num_targets] if num_targets < 2 else "several"
    if area is not None and area > 0:
        facts["size"] = "small" if area < SMALL else "medium" if area < LARGE else "large"
    return facts


def _length(num_words: int) -> str:
    for most, name in ((2, "1 to 2"), (4, "3 to 4"), (8, "5 to 8"), (16, "9 to 16")):
        if num_words <= most:
            return name
    return "17 or more"


ORDER = {  # of values whose alphabetical order is not their own
    "words": ("1 to 2", "3 to 4", "5 to 8", "9 to 16", "17 or more"),
    "size": ("small", "medium", "large"),
    "targets": ("none", "one", "several"),
}


class Part(NamedTuple):
    """Items that share the value of a fact."""

    fact: str
    value: str
    indices: tuple[int, ...]  # places of their records


def split_by_facts(records: Sequence[Record]) -> Iterator[Part]:
    """Yield the parts of every fact that has 2..MAX_VALUES values, ordered by fact and value."""
    values: dict[str, dict[str, list[int]]] = {}
    for index, record in enumerate(records):
        for fact, value in record.get(FACTS, {}).items():
            values.setdefault(fact, {}).setdefault(str(value), []).append(index)
    for fact, found in values.items():
        if 2 <= len(found) <= MAX_VALUES:
            order = ORDER.get(fact, sorted(found))
            for value in [*(one for one in order if one in found), *sorted(found.keys() - set(order))]:
                yield Part(fact, value, tuple(found[value]))


def break_down(benchmark: Benchmark[Any], records: Sequence[Record]) -> Iterator[tuple[Part, Figure]]:
    """Yield the first figure of a benchmark, with its interval, on each part of its records."""
    for part in split_by_facts(records):
        with values_only():
            figures = benchmark.summarize([records[index] for index in part.indices])
        if figures and figures[0].table is not None:
            rows, statistic, groups = figures[0].table
            yield part, measure(figures[0].name, rows, statistic, groups=groups)
