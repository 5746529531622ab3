"""Write the command lines that repeat an evaluation.

Flow: the benchmarks that a folder of answers names (store.Asked) -> list_commands -> the report.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.stamp import Run
from sa2va.evaluation.store import Asked


def list_commands(asked: Sequence[Asked]) -> tuple[str, ...]:
    """Return one command per choice of items; together they ask all benchmarks of the same model again."""
    grouped: dict[Selection, list[Asked]] = {}
    for one in asked:
        # The split of a public dataset is part of the name.
        alike = one.selection if one.selection.root is None else replace(one.selection, split="")
        grouped.setdefault(alike, []).append(one)
    return tuple(
        shlex.join(
            ["sa2va", "eval", *_model(several[0].run), "--benchmarks", ",".join(one.benchmark for one in several)]
            + _items(selection)
        )
        for selection, several in grouped.items()
    )


def _model(run: Run) -> list[str]:
    name, at, revision = run.model.rpartition("@")
    if not at or Path(run.model).exists():
        name, revision = run.model, ""
    options = {
        "--revision": revision, "--adapter": run.adapter, "--sam": run.sam, "--device": run.device,
        "--dtype": run.dtype, "--quantize": run.quantize,
        "--compile": {True: "on", False: "off"}.get(run.compile),
    }  # fmt: skip
    return [name, *_words(options)]


def _items(selection: Selection) -> list[str]:
    options = {
        "--data": selection.root,
        "--split": selection.split,
        "--limit": selection.limit,
        "--seed": selection.seed,
        "--prompts": None if selection.prompts == "ours" else selection.prompts,
        "--keyframes": selection.keyframes,
        "--num-keyframes": selection.num_keyframes,
    }
    return _words(options)


def _words(options: dict[str, object]) -> list[str]:
    return [word for name, value in options.items() if value not in (None, "") for word in (name, str(value))]
