"""List every dataset by name. Open this first.

Flow: a recipe or a command names a dataset -> DATASETS[name](...) -> Dataset -> base.Mixture.
Shapes: none.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sa2va.data.base import Dataset, Generated
from sa2va.types import Sample
from sa2va.world.tasks.catalog import TASKS


def build_world(build: Callable[..., Sample], *, seed: int = 0, split: str = "train", **options: Any) -> Dataset:
    """Make one task of the drawn world an endless dataset.

    Args:
        build: one of tasks.TASKS.
        seed: of the world.
        split: "train" never shows held-out pairs; any other name is another split.
        options: passed on to the task ("num_turns", "kind", ...).
    """
    return Generated(partial(build, seed, split, **options))


# Name -> function of keyword options that returns a Dataset.
DATASETS: dict[str, Callable[..., Dataset]] = {
    f"world/{name}": partial(build_world, build) for name, build in TASKS.items()
}
