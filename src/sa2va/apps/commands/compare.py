"""Compare two evaluations: `sa2va compare OUT_A OUT_B`.

Flow: two folders of `sa2va eval -o` -> evaluation/compare.py -> table or JSON.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from sa2va.apps.commands.eval import DataOption, split_names
from sa2va.apps.options import JsonOption, QuietOption, parse_path
from sa2va.apps.report import remark

FOLDER_HELP = "Folder of sa2va eval -o."


def compare(
    first: Annotated[Path, typer.Argument(metavar="OUT_A", parser=parse_path, help=FOLDER_HELP)],
    second: Annotated[Path, typer.Argument(metavar="OUT_B", parser=parse_path, help=FOLDER_HELP)],
    benchmarks: Annotated[
        list[str] | None,
        typer.Option("--benchmarks", "-b", metavar="NAME[,NAME...]", help="Benchmarks, or single splits. Repeatable."),
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Also by facts of the items: size, length of expression, kind.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare two evaluations on the items that both answered: B minus A, 95 % interval and p of every figure.

    Each resample draws the same pictures or clips on both sides. A benchmark that was asked in different words,
    or scored by another protocol, is refused.
    """
    from rich.console import Console

    from sa2va.evaluation.compare import compare as run

    found = run(first, second, names=split_names(benchmarks or ()) or None, root=data)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False))
        return
    Console().print(found.table(parts=parts))
    for line in found.lines():
        remark(line, quiet)
