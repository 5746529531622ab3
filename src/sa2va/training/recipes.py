"""Say what a run is: a function that returns its configuration.

Flow: `sa2va train NAME` -> find_recipe -> RunConfig -> run.py. Extensions list theirs under RECIPES.
"""

from collections.abc import Callable

from sa2va.extensions import find_part
from sa2va.training.config import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {}  # of the core


def find_recipe(name: str) -> Callable[[], RunConfig]:
    """Return the recipe of a name, of the core or of an extension.

    Raises:
        ValueError: there is none, or its extension cannot be imported.
    """
    return find_part("recipe", name, RECIPES)
