"""List every dataset by name.

Flow: name in a recipe or a command -> build_dataset -> Dataset -> base.Mixture.
"""

from collections.abc import Callable
from typing import Any

from sa2va.data.base import Dataset
from sa2va.extensions import find_part

# Name -> function of keyword options that returns a Dataset. Extensions add theirs with DATASETS in extension.py.
DATASETS: dict[str, Callable[..., Dataset]] = {}


def build_dataset(name: str, **options: Any) -> Dataset:
    """Build a dataset of the core or of an extension.

    Raises:
        ValueError: unknown name.
    """
    return find_part("dataset", name, DATASETS)(**options)
