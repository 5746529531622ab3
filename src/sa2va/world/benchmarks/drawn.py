"""Adapt the benchmarks on synthetic scenes to the arguments of every benchmark: a Selection.

Flow: evaluation/catalog.py (Selection) -> drawn -> short.py, long.py (Split, number of items).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.world.scenes.splits import find_split

NUM_ITEMS = 500  # without a limit


def drawn(build: Callable[..., Benchmark[Any]]) -> Callable[..., Benchmark[Any]]:
    """Turn a function of (Split, num_items) into one of a Selection that records split and seed.

    The result raises ValueError for an unknown split, and for a seed that the split does not allow.
    """

    @wraps(build)
    def build_drawn(selection: Selection, **options: Any) -> Benchmark[Any]:
        chosen = find_split(selection.split, selection.seed)
        built = build(chosen, selection.limit or NUM_ITEMS, **options)
        return replace(built, split=chosen.name, seed=chosen.seed)

    return build_drawn


def numbers(num_items: int) -> list[str]:
    """Return the ids of generated items: their numbers."""
    return [str(number) for number in range(num_items)]
