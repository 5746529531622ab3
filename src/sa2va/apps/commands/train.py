"""Train a model from a recipe: `sa2va train tiny seed=1`.

Flow: recipe name, name=value overrides -> training/run.py -> checkpoint folder; a second call resumes.
"""

from typing import Annotated

import typer

from sa2va.apps.options import OutputOption


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe; a wrong name lists the known ones.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Settings of the recipe to override.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Train from a recipe; the same command again resumes where it stopped."""
    from sa2va.training import run

    run.train(recipe, overrides or [], str(output) if output else None)
