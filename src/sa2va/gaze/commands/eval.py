"""Evaluate gaze: `sa2va gaze eval --data FILE --oracle-target`, or recompute recorded metrics: `--golden FOLDER`.

Flow: synthetic scenes -> simulated.py; data, word timing, predictions -> gaze/evaluation/ -> one table; a folder of
    recorded metrics -> the largest difference per metric, exit code 1 beyond the limit.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import CHECK_FAILED, JsonOption, ModelChoice, OutputOption, QuietOption, parse_path, takes_model
from sa2va.apps.report import remark
from sa2va.gaze.commands.rows import PAGE, choose_baselines, print_page, write_page
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from sa2va.gaze.baselines.base import Baseline
    from sa2va.gaze.evaluation.cases import Case
    from sa2va.gaze.evaluation.golden import Deviation
    from sa2va.gaze.evaluation.table import Row
    from sa2va.gaze.trial import Trial

SAMPLES, PEOPLE_DRAWN = 10, 9  # default scanpaths per case; on synthetic scenes the number of observers


DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="FILE", parser=parse_path, help="Scanpaths in the layout of RefCOCO-Gaze."),
]
WordsOption = Annotated[
    Path | None,
    typer.Option("--words", metavar="FILE", parser=parse_path, help="Word timing: word-timing.json."),
]
PredictionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        parser=parse_path,
        help="List of {REF_ID, REPEAT_ID, X, Y}, px of 512 x 320.",
    ),
]
MoreArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", parser=parse_path, help="More files of predictions.")
]
OracleOption = Annotated[
    bool, typer.Option("--oracle-target", help="Give every system the box of the target; needs no images.")
]
GoldenOption = Annotated[
    Path | None,
    typer.Option("--golden", metavar="FOLDER", parser=parse_path, help="Folder of recorded metrics to recompute."),
]
FoldsOption = Annotated[int, typer.Option(min=2, help="Cross-validation folds, split by photo.")]
LearnedOption = Annotated[
    bool,
    typer.Option("--learned/--no-learned", help="Also train our decoder and the rebuilt baselines (takes minutes)."),
]
WorldOption = Annotated[bool, typer.Option("--world", help="Evaluate a model on held-out synthetic scenes.")]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split", metavar="NAME", help="Test set (with --world): dev for development, report for final results."
    ),
]
SeedOption = Annotated[
    int | None, typer.Option(min=0, help="Random seed: of the scenes (with --world), of the samples (with --data).")
]
SamplesOption = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="Number of scanpaths to sample per case; default 10, with --world 9."),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Number of scoring processes; by default one per core.")
]
CheckOption = Annotated[bool, typer.Option("--check", help="Exit code 1 if a figure misses its bar (with --world).")]
ItemsOption = Annotated[int, typer.Option(min=10, help="Number of expressions, nine observers each (with --world).")]
GazeOption = Annotated[
    Path | None,
    typer.Option("--gaze", metavar="FOLDER", parser=parse_path, help="Gaze weights; by default those of the model."),
]
PretrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--pretrained", metavar="FOLDER", parser=parse_path, help="Decoder pretrained without Sa2VA (with --world)."
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="FOLDER", parser=parse_path, help="Cache folder for encoded scenes (with --world)."
    ),
]
PlotsOption = Annotated[
    Path | None, typer.Option("--plots", metavar="FOLDER", parser=parse_path, help="Folder for charts (with --world).")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="FOLDER", parser=parse_path, help="Folder of stimuli, to evaluate the model (with --data)."
    ),
]

# Evaluation mode -> its options, apart from ALWAYS.
MODEL = frozenset(field.name for field in fields(ModelChoice))
SHARED = MODEL | {"gaze", "samples", "learned", "seed", "jobs", "output"}
SETTINGS = {
    "golden": frozenset[str](),
    "world": SHARED | {"split", "items", "pretrained", "store", "plots", "check"},
    "data": SHARED | {"words", "predictions", "more", "images", "oracle_target", "folds"},
}
ALWAYS = frozenset({"as_json", "quiet"})


@takes_model
def evaluate(
    context: typer.Context,
    data: DataOption = None,
    words: WordsOption = None,
    predictions: PredictionsOption = None,
    more: MoreArgument = None,
    images: ImagesOption = None,
    oracle_target: OracleOption = False,
    golden: GoldenOption = None,
    world: WorldOption = False,
    items: ItemsOption = 500,
    split: SplitOption = "dev",
    gaze: GazeOption = None,
    pretrained: PretrainedOption = None,
    store: StoreOption = None,
    plots: PlotsOption = None,
    samples: SamplesOption = None,
    folds: FoldsOption = 5,
    learned: LearnedOption = True,
    seed: SeedOption = None,
    jobs: JobsOption = None,
    output: OutputOption = None,
    check: CheckOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Compare predictions, baselines, references and observers on the same cases and folds, in one table.

    With -o, FOLDER/report.json holds every figure, and FOLDER/table.md the tables.
    """
    if (golden is not None) + (data is not None) + world != 1:
        raise ValueError("expected exactly one input; give one of --data FILE, --world and --golden FOLDER")
    refuse_idle(context, "golden" if golden is not None else "world" if world else "data")
    ready = prepare()
    if output is not None:
        PAGE.check(output)  # report an unusable folder before the evaluation
    if golden is not None:
        check_recorded(golden, as_json=as_json)
        return
    if world:
        from sa2va.gaze.commands.simulated import WorldRequest, evaluate_world

        asked = WorldRequest(
            choice=choice, split=split, seed=seed, items=items, samples=samples or PEOPLE_DRAWN, learned=learned,
            gaze=gaze, pretrained=pretrained, store=store, plots=plots, output=output, check=check, jobs=jobs or -1,
        )  # fmt: skip
        evaluate_world(asked, as_json=as_json, quiet=quiet)
        return
    assert data is not None and ready
    files = [*(predictions or []), *(more or [])]
    trials = read_trials(data, words)
    if not oracle_target and not files and images is None:
        raise ValueError("nothing to score; add --oracle-target, --images FOLDER, or --predictions FILE")
    makers = [pixel_baseline(choice, gaze, images)] if images is not None else []
    makers += choose_baselines(oracle=oracle_target, learned=learned)
    settings = ScoringSettings(folds, samples or SAMPLES, seed or 0, jobs or -1)
    rows, cases = make_rows(trials, files, makers, settings, quiet=quiet)
    show_recorded(rows, cases, settings, data, output, as_json=as_json, quiet=quiet)


@dataclass(frozen=True)
class ScoringSettings:
    """Options of sampling and scoring scanpaths."""

    folds: int
    samples: int
    seed: int
    jobs: int


def show_recorded(
    rows: "Sequence[Row]",
    cases: "Sequence[Case]",
    settings: ScoringSettings,
    data: Path,
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print the table of recorded gaze; write it to `output` if given."""
    from sa2va.gaze.evaluation.markdown import recorded_page
    from sa2va.gaze.evaluation.table import as_record

    num_people = sum(len(case.people) for case in cases)
    page = recorded_page(rows, f"{len(cases)} cases, {num_people} scanpaths, {settings.samples} samples of each case.")
    shown = {"folds": settings.folds, "samples": settings.samples, "seed": settings.seed}
    record = as_record(rows, cases, data=str(data), **shown)
    if output is not None:
        for path in write_page(output, record, page):
            remark(f"wrote {path}", quiet)
    if as_json:
        print(json.dumps(record, allow_nan=False))
    else:
        print_page(page)


def refuse_idle(context: typer.Context, mode: str) -> None:
    """Refuse options without effect in this mode.

    Args:
        context: context of the command line.
        mode: evaluation mode, a key of SETTINGS.

    Raises:
        ValueError: an option of another mode is given; the message names it.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in SETTINGS[mode] | ALWAYS | {mode}:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else str(context.params[name][0])
            raise ValueError(f"{shown}: cannot be combined with --{mode}; leave it out")


def prepare() -> bool:
    """Import the libraries of the metrics.

    Raises:
        ValueError: one is missing; the message gives the pip command.
    """
    try:
        import scipy
        import sklearn
    except ModuleNotFoundError as error:
        raise ValueError(f"gaze needs {error.name}; run: pip install 'sa2va[gaze]'") from error
    return bool(scipy and sklearn)


def check_recorded(folder: Path, *, as_json: bool) -> None:
    """Print the largest difference of each recorded metric.

    Raises:
        typer.Exit: a difference exceeds the limit.
    """
    from sa2va.gaze.evaluation.golden import LIMIT, check_folder

    rows = check_folder(folder)
    if as_json:
        print(json.dumps([deviation_record(row) for row in rows]))
    else:
        show_deviations(rows, LIMIT)
    if not all(row.ok for row in rows):
        raise typer.Exit(CHECK_FAILED)


def deviation_record(row: "Deviation") -> dict[str, Any]:
    largest = row.largest if math.isfinite(row.largest) else None
    return {"metric": row.name, "values": row.num_values, "largest": largest, "where": row.where, "ok": row.ok}


def show_deviations(rows: "Sequence[Deviation]", limit: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", box=None, pad_edge=False)
    for title in ("values", "max |difference|", "ok"):
        table.add_column(title, justify="right")
    table.add_column("where")
    for row in rows:
        mark = "ok" if row.ok else "[bold red]no[/]"
        where = "" if row.ok else in_markup(row.where)
        table.add_row(in_markup(row.name), str(row.num_values), f"{row.largest:.2g}", mark, where)
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(table)
    console.print(f"{sum(row.ok for row in rows)} of {len(rows)} metrics are within {limit:g}.")


def read_trials(data: Path, words: Path | None) -> "list[Trial]":
    """Read recorded scanpaths, in coordinates of the canvas."""
    from sa2va.gaze.datasets.refcoco_gaze import read_refcoco_gaze
    from sa2va.gaze.trial import on_canvas

    return [on_canvas(trial) for trial in read_refcoco_gaze(data, words)]


def make_rows(
    trials: "Sequence[Trial]",
    files: Sequence[Path],
    makers: "Sequence[Callable[[], Baseline]]",
    settings: ScoringSettings,
    *,
    quiet: bool,
) -> "tuple[list[Row], list[Case]]":
    """Score every system of the table: predictions, observers, baselines."""
    from tqdm import tqdm

    from sa2va.gaze.evaluation.cases import count_other_packs, read_cases
    from sa2va.gaze.evaluation.predictions import read_predictions
    from sa2va.gaze.evaluation.table import baseline_row, finish_rows, folds_of, people_row, prediction_row

    predicted = {str(path): read_predictions(path) for path in files}  # report a bad file before scoring
    parts = folds_of(trials, settings.folds)
    cases = read_cases(trials)
    rows = [prediction_row(name, cases, found, jobs=settings.jobs) for name, found in predicted.items()]
    for row, found in zip(rows, predicted.values(), strict=True):
        if row.num_cases < len(cases) or len(found) > row.num_cases:
            remark(f"{row.name}: {row.num_cases} of {len(cases)} cases, {len(found)} in the file", quiet)
        if others := count_other_packs(cases, found):
            remark(
                f"{row.name}: {others} of {sum(map(len, found.values()))} scanpaths have another number of packs than "
                "the number of words + 2; missing packs count as empty, extra ones are merged into the last",
                quiet,
            )
    rows.append(people_row(cases, jobs=settings.jobs))
    for make in tqdm(makers, desc="baselines", disable=quiet or not sys.stderr.isatty(), leave=False):
        samples, seed = settings.samples, settings.seed
        rows.append(baseline_row(make, cases, parts, num_samples=samples, seed=seed, jobs=settings.jobs))
    tested = next((row.name for row in rows if row.kind == "baseline" and "bits" in row.figures), "")
    return finish_rows(rows, ours=tested), cases


def pixel_baseline(choice: ModelChoice, gaze: Path | None, images: Path) -> "Callable[[], Baseline]":
    """Return a factory of the baseline that runs the model under test on a folder of images."""
    from sa2va.gaze.baselines.event_decoder import PixelBaseline
    from sa2va.gaze.predictor import load_gaze
    from sa2va.inference.embedded import warn_once

    if not images.is_dir():
        raise ValueError(f"--images {images}: no such folder; give the folder of the stimuli")
    predictor = load_gaze(choice.model, gaze=gaze, **choice.arguments())
    if predictor.is_embedded:
        warn_once()
    predictor.model.decoder.to("cpu").float()
    return lambda: PixelBaseline(predictor.model, images)
