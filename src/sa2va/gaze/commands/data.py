"""Look at a dataset before it is used: `sa2va data check refcoco_gaze refcocogaze_val_correct.json`.

Flow: name, file -> gaze/catalog.py -> trials -> gaze/statistics.py -> figures beside those that are known; exit 1
    where one is too far off.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import JsonOption, parse_path
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from sa2va.gaze.statistics import Row
    from sa2va.gaze.trial import Trial

CHECK_FAILED = 1

app = typer.Typer(
    help="Look at datasets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def data() -> None:
    """Look at datasets."""


@app.command("check")
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="refcoco_gaze, coco_search18, osie, or world, which is drawn.")
    ],
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            parser=parse_path,
            help="File of the fixations, or its folder; none for world.",
            show_default="",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn world.")] = 0,
    items: Annotated[int, typer.Option(min=1, help="Expressions of the drawn world, ten people each.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """Describe recorded or drawn gaze in figures, and hold them against what is known of it."""
    trials = read_trials(name, path, seed, items)
    from sa2va.gaze.statistics import EXPECTED, ORIGINS, compare, describe, unseen_half

    figures = describe(trials)
    rows = compare(describe(unseen_half(name, trials)), EXPECTED[name])
    passed = all(row.passed for row in rows)
    if as_json:
        print(
            json.dumps(
                {
                    "name": name,
                    "passed": passed,
                    "origin": ORIGINS[name],
                    "figures": figures,
                    "checks": [as_dict(row) for row in rows],
                }
            )
        )
    else:
        show(figures, rows, ORIGINS[name])
    if not passed:
        raise typer.Exit(CHECK_FAILED)


def read_trials(name: str, path: Path | None, seed: int, items: int) -> "list[Trial]":
    """Read or draw the trials of a dataset.

    Raises:
        ValueError: an extra is not installed, the name is unknown, or the file does not fit it.
    """
    try:
        from sa2va.gaze.catalog import DATASETS, FILES
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sa2va"):
            raise
        raise ValueError(f"gaze needs {error.name}; run: pip install 'sa2va[gaze]'") from error
    from sa2va.gaze.datasets.records import find_file

    if name not in DATASETS:
        raise ValueError(f"no dataset {name!r}; there are {', '.join(DATASETS)}")
    if name in FILES:
        if path is None:
            raise ValueError(f"{name} is read from a file; add its path, as in sa2va data check {name} {FILES[name]}")
        return DATASETS[name](find_file(path, FILES[name]))
    if path is not None:
        raise ValueError(f"{path}: {name} is drawn, not read; leave the path out")
    return DATASETS[name](seed=seed, num_cases=items)


def as_dict(row: "Row") -> dict[str, Any]:
    """One figure as JSON holds it; what the data has nothing for is null."""
    value = None if math.isnan(row.value) else row.value
    expected = {"expected": row.expected.value, "tolerance": row.expected.tolerance}
    return {"name": row.name, "value": value, **expected, "ok": row.passed}


def show(figures: Mapping[str, float], rows: "Sequence[Row]", origin: str) -> None:
    """Print every figure, those that are known beside what was expected, how many fit, and where that is from."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", box=None, pad_edge=False)
    for name in ("value", "expected", "within", "ok"):
        table.add_column(name, justify="right")
    checked = {row.name: row for row in rows}
    for name in [*(name for name in figures if name not in checked), *checked]:
        row = checked.get(name)
        value = figures.get(name) if row is None or math.isnan(row.value) else row.value
        cells = ["-" if value is None else f"{value:.4g}"]
        if row is not None:
            mark = "ok" if row.passed else "[bold red]no[/]"
            cells += [f"{row.expected.value:.4g}", f"{row.expected.tolerance:.4g}", mark]
        table.add_row(in_markup(name), *cells)
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(table)
    console.print(f"{sum(row.passed for row in rows)} of {len(rows)} figures are as expected. {origin}")
