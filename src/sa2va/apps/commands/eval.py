"""Evaluate a model: `sa2va eval MODEL --benchmark NAME`, or `--EXTENSION` for all benchmarks of an extension.

Flow: model, names of benchmarks -> evaluation/runner.py -> table or JSON; with -o, a journal that resumes.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from sa2va.apps.options import (
    CHECK_FAILED,
    MODEL_HELP,
    JsonOption,
    ModelChoice,
    OutputOption,
    QuietOption,
    takes,
    takes_model,
)
from sa2va.extensions import load_extensions, missing_extensions


def takes_extensions(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option `--NAME` per extension with benchmarks; the command gets the chosen names as `extensions`.

    A deleted extension keeps a hidden option; using it is an error that names the extension.
    """
    options = {
        name: (Annotated[bool, typer.Option(f"--{name}", help=f"All benchmarks of the extension {name}.")], False)
        for name, module in load_extensions().items()
        if hasattr(module, "BENCHMARKS")
    }
    options |= {name: (Annotated[bool, typer.Option(f"--{name}", hidden=True)], False) for name in missing_extensions()}
    return takes(command, "extensions", options, lambda values: [name for name in options if values[name]])


@takes_model
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", metavar="NAME", help="Benchmark. Repeatable."),
    ] = None,
    split: Annotated[str, typer.Option(help="Test set: dev to choose by, report for figures to quote.")] = "dev",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed of generated items; each is a fresh test set.")
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="Number of items of each benchmark.")] = 500,
    output: OutputOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if a figure misses its bar.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    extensions: list[str],
    choice: ModelChoice,
) -> None:
    """Evaluate a model: every figure with its 95 % interval and its chance baseline.

    With -o, each score is kept in FOLDER/journal.jsonl, and the same command again resumes. Commands
    with different benchmarks may write to one folder at the same time; one with all of them then reports them together.
    """
    if absent := [name for name in extensions if name in missing_extensions()]:
        raise ValueError(f"--{absent[0]}: the extension {absent[0]} is not installed; install the whole package again")
    if not (extensions or benchmark):
        flags = [f"--{name}" for name, module in load_extensions().items() if hasattr(module, "BENCHMARKS")]
        raise ValueError(f"nothing to evaluate; add {', '.join([*flags, '--benchmark NAME'])}")
    from sa2va.evaluation.catalog import build_benchmarks
    from sa2va.evaluation.report import show
    from sa2va.evaluation.runner import evaluate as run
    from sa2va.evaluation.runner import require_own_report
    from sa2va.evaluation.stamp import describe_run

    if output is not None:
        require_own_report(output)  # before the model is loaded
    options: Any = {"split": split, "seed": seed, "limit": items}
    built = [one for name in extensions for one in build_benchmarks(extension=name, **options)]
    built += build_benchmarks([name for name in benchmark or () if name not in {one.name for one in built}], **options)
    predictor = choice.load()
    stamp = describe_run(predictor, model, built, **choice.sources(), split=split, num_items=items)
    report = run(predictor, built, stamp, folder=output, progress=not quiet)
    show(report, as_json=as_json)
    if check and not report.passed:
        raise typer.Exit(CHECK_FAILED)
