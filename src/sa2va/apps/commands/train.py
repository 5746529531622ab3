"""Train a model from a recipe: `sa2va train tiny seed=1`; `--dry-run` describes the run instead.

Flow: recipe name, name=value overrides -> training/run.py -> checkpoint folder; a second call resumes.
    With --dry-run: training/plan.py -> parameters, tokens, memory and mixture as tables, or JSON.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sa2va.apps.options import JsonOption, OutputOption

if TYPE_CHECKING:
    from rich.table import Table

    from sa2va.training.plan import RunPlan, StagePlan


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe; a wrong name lists the known ones.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Settings of the recipe to override.")
    ] = None,
    output: OutputOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Parameters, tokens, memory and mixture; nothing is trained.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, max=2**16, metavar="N", help="Processes that share a step, for --dry-run.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train from a recipe; the same command again resumes where it stopped."""
    if not dry_run and (as_json or processes > 1):
        raise ValueError("--json and --processes belong to --dry-run; add it, or leave them out")
    if not dry_run:
        from sa2va.training import run

        run.train(recipe, overrides or [], str(output) if output else None)
        return
    from sa2va.training.config import apply_overrides
    from sa2va.training.plan import plan_run
    from sa2va.training.recipes import find_recipe

    plan = plan_run(apply_overrides(find_recipe(recipe)(), overrides or []), processes)
    if as_json:
        print(json.dumps(asdict(plan)))
    else:
        show(plan)


def show(plan: "RunPlan") -> None:
    """Print the tables of a plan."""
    from rich.console import Console

    console = Console(highlight=False)
    for stage in plan.stages:
        title = f"{plan.recipe}, stage {stage.name}, from {plan.start}, on {plan.device}, {stage.precision}"
        console.print(title, markup=False)
        load = stage.load
        console.print(
            f"{stage.steps:,} steps of {stage.samples} samples: {stage.processes} process(es), {stage.accumulate} "
            f"batch(es) each. A batch of {load.samples} samples has {load.tokens:,.0f} tokens "
            f"({load.visual_tokens:,.0f} visual, at most {load.most_tokens:,} seen), {load.frames:.1f} frames "
            f"for SAM 2 and {load.masks:.1f} masks.\n",
            markup=False,
        )
        for table in (parts_table(stage), memory_table(stage), mixture_table(stage)):
            console.print(table)
            console.print()


def parts_table(stage: "StagePlan") -> "Table":
    """Build the table of trained and frozen parameters."""
    table = _table("Parameters, millions", ("trained", "frozen"))
    rows = [(part.part, part.trained, part.frozen) for part in stage.parts]
    total = ("all", sum(part.trained for part in stage.parts), sum(part.frozen for part in stage.parts))
    for name, *numbers in [*rows, total]:
        table.add_row(name, *(f"{number / 1e6:,.3f}" for number in numbers))
    return table


def memory_table(stage: "StagePlan") -> "Table":
    """Build the table of memory, a row for each combination of savers."""
    names = ("weights", "gradients", "optimizer", "activations", "working", "total")
    table = _table("Memory of one process, GiB (estimate, without libraries)", names)
    for saver, plan in stage.memory.items():
        table.add_row(saver, *(f"{getattr(plan, name) / 2**30:.2f}" for name in names))
    return table


def mixture_table(stage: "StagePlan") -> "Table":
    """Build the table of datasets: records, wanted share and the share they get."""
    table = _table("Mixture", ("records", "wanted share", "share drawn"))
    for row in stage.mixture:
        records = row["records"] if isinstance(row["records"], str) else f"{row['records']:,}"
        table.add_row(str(row["dataset"]), records, f"{row['wanted']:.4f}", f"{row.get('drawn', 0):.4f}")
    return table


def _table(title: str, columns: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    return table
