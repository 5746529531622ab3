"""Measure a model: `sa2va eval tiny --world --seed 7 --items 500`.

Flow: model, names of benchmarks -> evaluation/runner.py -> table or JSON; with -o, a journal that resumes.
"""

from typing import Annotated

import typer

from sa2va.apps.options import MODEL_HELP, JsonOption, ModelChoice, OutputOption, QuietOption, takes_model

CHECK_FAILED = 1


@takes_model
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    world: Annotated[bool, typer.Option("--world", help="All of the drawn world but world/long.")] = False,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", metavar="NAME", help="One benchmark, as in world/video. Repeatable."),
    ] = None,
    split: Annotated[str, typer.Option(help="Test set: dev to choose by, report for figures to quote.")] = "dev",
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed of dev; every seed is a fresh set.")] = None,
    items: Annotated[int, typer.Option(min=1, help="Items of each benchmark.")] = 500,
    output: OutputOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a figure misses its bar.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Compute every figure with its 95 % interval, chance beside it.

    With -o, each score is kept in FOLDER/journal.jsonl, and the same command again goes on where it stopped. Commands
    with different benchmarks may write to one folder at the same time; one with all of them then reports them together.
    """
    if not (world or benchmark):
        raise ValueError("nothing to evaluate; add --world, or --benchmark NAME")
    from sa2va.evaluation.catalog import build_benchmarks
    from sa2va.evaluation.report import show
    from sa2va.evaluation.runner import evaluate as run
    from sa2va.evaluation.runner import require_own_report
    from sa2va.evaluation.stamp import describe_run
    from sa2va.world.scenes.splits import find_split

    if output is not None:
        require_own_report(output)  # before the model is loaded
    chosen = find_split(split, seed)
    benchmarks = build_benchmarks(None if world else benchmark, split=chosen, num_items=items)
    predictor = choice.load()
    stamp = describe_run(predictor, model, **choice.sources(), split=split, seed=chosen.seed, num_items=items)
    report = run(predictor, benchmarks, stamp, folder=output, progress=not quiet)
    show(report, as_json=as_json)
    if check and not report.passed:
        raise typer.Exit(CHECK_FAILED)
