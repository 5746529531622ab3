"""Check a dataset before it is used: `sa2va data check NAME PATH`.

Flow: name, file -> a function that an extension lists under DATASET_CHECKS -> data/check.py -> table or JSON.
    Exit code 1 if a figure is out of tolerance.
"""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import CHECK_FAILED, JsonOption, build_group, parse_path
from sa2va.extensions import find_part
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from sa2va.data.check import Check, Row


app = build_group("Check datasets.")


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Dataset; a wrong name lists the known ones.")],
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]", parser=parse_path, help="Its file or folder; none for generated data.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of generated data.")] = 0,
    items: Annotated[int, typer.Option(min=1, help="Number of items of generated data.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """Measure a dataset and compare it with known figures."""
    found: Check = find_part("dataset check", name, {})(name, path, seed, items)
    if as_json:
        checks = [as_dict(row) for row in found.rows]
        report = {"name": name, "passed": found.passed, "origin": found.origin, "figures": dict(found.figures)}
        print(json.dumps(report | {"checks": checks}))
    else:
        show(found)
    if not found.passed:
        raise typer.Exit(CHECK_FAILED)


def as_dict(row: "Row") -> dict[str, Any]:
    """Return one figure for JSON; null if the dataset has nothing to measure."""
    value = None if math.isnan(row.value) else row.value
    expected = {"expected": row.expected.value, "tolerance": row.expected.tolerance}
    return {"name": row.name, "value": value, **expected, "ok": row.passed}


def show(found: "Check") -> None:
    """Print every figure, with the expected value if one is known, and the source of the expected values."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", box=None, pad_edge=False)
    for name in ("value", "expected", "within", "ok"):
        table.add_column(name, justify="right")
    checked = {row.name: row for row in found.rows}
    for name in [*(name for name in found.figures if name not in checked), *checked]:
        row = checked.get(name)
        value = found.figures.get(name) if row is None or math.isnan(row.value) else row.value
        cells = ["-" if value is None else f"{value:.4g}"]
        if row is not None:
            mark = "ok" if row.passed else "[bold red]no[/]"
            cells += [f"{row.expected.value:.4g}", f"{row.expected.tolerance:.4g}", mark]
        table.add_row(in_markup(name), *cells)
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(table)
    console.print(
        f"{sum(row.passed for row in found.rows)} of {len(found.rows)} figures are as expected. {found.origin}"
    )
