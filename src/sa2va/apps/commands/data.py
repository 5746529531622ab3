"""Check a dataset before it is used: `sa2va data check NAME PATH`.

Flow: name, path -> build_dataset -> data/inspection.py, or a function that an extension lists under DATASET_CHECKS
    -> data/check.py -> table or JSON, and with -o a contact sheet. Exit code 1 if a figure is out of tolerance.
"""

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import CHECK_FAILED, JsonOption, OutputOption, build_group, parse_path
from sa2va.apps.report import remark, say
from sa2va.extensions import find_part
from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from sa2va.data.check import Check, Row
    from sa2va.types import Frame

SHEET, FIGURES = "contact_sheet.png", "check.json"  # files of -o
MAX_LISTED = 50  # problems that are printed

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
    split: Annotated[str, typer.Option(help="Split of a dataset that is read from files.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of generated data.")] = 0,
    items: Annotated[int, typer.Option(min=1, help="Number of items to decode or to generate.")] = 300,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every record of a dataset, measure decoded samples, and compare with known figures.

    With -o, the figures and a contact sheet of samples to look at are written to FOLDER.
    """
    from sa2va.media.pictures import save_image

    with staged(output, Claim((re.escape(SHEET), re.escape(FIGURES))), [path] if path else []) as scratch:
        found, problems, sheet = measure(name, path, split, seed, items)
        checks = [as_dict(row) for row in found.rows]
        report: dict[str, Any] = {"name": name, "passed": found.passed, "origin": found.origin}
        report |= {"figures": dict(found.figures), "checks": checks, "problems": list(problems)}
        if scratch is not None:
            (scratch / FIGURES).write_text(json.dumps(report) + "\n", encoding="utf-8")
            if sheet is not None:
                save_image(scratch / SHEET, sheet)
    if as_json:
        print(json.dumps(report))
    else:
        show(found)
        for line in problems[:MAX_LISTED]:
            say(line)
        remark(f"{len(problems) - MAX_LISTED} more problems", len(problems) <= MAX_LISTED)
        remark(f"wrote {output}" if output else "add -o FOLDER for a contact sheet to look at", False)
    if not found.passed:
        raise typer.Exit(CHECK_FAILED)


def measure(
    name: str, path: Path | None, split: str, seed: int, items: int
) -> "tuple[Check, tuple[str, ...], Frame | None]":
    """Measure a stored dataset, or run the check of an extension; return figures, problems and a contact sheet.

    Raises:
        ValueError: unknown name, no path, or no record can be read.
    """
    from sa2va.data.catalog import DATASETS, build_dataset
    from sa2va.data.check import Check, Expected, compare
    from sa2va.data.inspection import inspect
    from sa2va.data.stored import DamagedRecords, StoredDataset

    if name not in DATASETS:
        checks = dict.fromkeys(DATASETS)  # so that the error for an unknown name lists them too
        return find_part("dataset check", name, checks)(name, path, seed, items), (), None
    if path is None:
        raise ValueError(f"{name} is read from files; add their folder, as in sa2va data check {name} FOLDER")
    try:
        dataset = build_dataset(name, path, split=split)
    except DamagedRecords as error:
        figures = {"damaged records": float(len(error.errors))}
        rows = compare(figures, {"damaged records": Expected(0, 0)})
        return Check(figures=figures, rows=rows, origin="No sample was decoded."), error.errors, None
    assert isinstance(dataset, StoredDataset)
    found = inspect(dataset, items)
    return found.check, found.problems, found.sheet


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
