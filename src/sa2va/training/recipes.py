"""List the recipes, functions that return the configuration of a run.

Flow: `sa2va train NAME` -> find_recipe -> RunConfig -> run.py. Extensions add theirs with RECIPES in extension.py.
"""

from collections.abc import Callable

from sa2va.extensions import find_part
from sa2va.training.config import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {}  # recipes of the core


def find_recipe(name: str) -> Callable[[], RunConfig]:
    """Return the recipe of a name, from the core or an extension.

    Raises:
        ValueError: unknown name, or its extension cannot be imported.
    """
    return find_part("recipe", name, RECIPES)
