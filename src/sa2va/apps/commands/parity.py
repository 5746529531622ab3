"""Check a model against recorded tensors: `sa2va parity FOLDER`.

Flow: folder -> evaluation.parity.check_folder -> one row per recorded tensor; exit 1 where one is out of its limit.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sa2va.apps.options import CHECK_FAILED, JsonOption, parse_path
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from sa2va.evaluation.parity import Comparison


def parity(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            parser=parse_path,
            help="Model folder with recorded cases (image, video, visual_prompt).",
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="No allowance for the rounding of this machine.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a model on recorded inputs and compare every recorded tensor."""
    from sa2va.evaluation.parity import as_dict, check_folder

    rows = list(check_folder(folder, strict=strict))
    if as_json:
        print(json.dumps([as_dict(row) for row in rows]))
    else:
        show(rows)
    if not all(row.ok for row in rows):
        raise typer.Exit(CHECK_FAILED)


def show(rows: Sequence["Comparison"]) -> None:
    """Print the table, and below it how many rows are within their limits."""
    from rich.console import Console
    from rich.table import Table

    rounded = any(row.rounding is not None for row in rows)
    table = Table("case", "tensor", "max |difference|", *["our rounding"] * rounded, "limit", "ok")
    for row in rows:
        rounding = [f"{row.rounding:.2g}" if row.rounding is not None else ""] * rounded
        mark = "ok" if row.ok else "[bold red]no[/]"
        difference = f"{row.difference:.2g} {row.unit}".rstrip()
        table.add_row(in_markup(row.case), in_markup(row.name), difference, *rounding, f"{row.limit:g}", mark)
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(table)
    beyond = sum(row.ok and row.difference > row.limit for row in rows)
    console.print(f"{sum(row.ok for row in rows)} of {len(rows)} tensors are within their limits.")
    if beyond:
        console.print(f"{beyond} of them by the rounding of float32 on this machine (--strict counts them as failed).")
