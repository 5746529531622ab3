"""Adapt the benchmarks on synthetic scenes to the arguments of every benchmark: split, seed, limit.

Flow: evaluation/catalog.py (split name, seed, limit) -> drawn -> short.py, long.py (Split, number of items).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from sa2va.evaluation.benchmark import Benchmark, LiveBenchmark
from sa2va.world.scenes.splits import find_split

B = TypeVar("B", Benchmark, LiveBenchmark)


def drawn(build: Callable[..., B]) -> Callable[..., B]:
    """Turn a function of (Split, num_items) into one of (split, seed, limit) that records the seed.

    The result raises ValueError for an unknown split, and for a seed that the split does not allow.
    """

    @wraps(build)
    def build_drawn(split: str, seed: int | None, limit: int, **options: Any) -> B:
        chosen = find_split(split, seed)
        return replace(build(chosen, limit, **options), seed=chosen.seed)

    return build_drawn
