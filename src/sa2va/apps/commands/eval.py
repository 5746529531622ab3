"""Evaluate a model: `sa2va eval MODEL --benchmarks NAME --data DIR`, and score answers again: `sa2va score OUT`.

Flow: model, names of benchmarks -> evaluation/runner.py -> table or JSON; with -o, answers that resume, and a report.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sa2va.apps.judge import JudgeChoice, takes_judge
from sa2va.apps.options import (
    CHECK_FAILED,
    MODEL_HELP,
    JsonOption,
    ModelChoice,
    OutputOption,
    QuietOption,
    dataclass_options,
    parse_path,
    takes,
    takes_model,
)
from sa2va.apps.report import remark
from sa2va.apps.spread import Spread, spread_option
from sa2va.extensions import collect, load_extensions, missing_extensions, resolve

if TYPE_CHECKING:
    from sa2va.evaluation.benchmark import Benchmark
    from sa2va.evaluation.store import Shard

Keyframes = Literal["first", "uniform", "content"]
Wording = Literal["ours", "released"]  # as in evaluation/prompts.py, which is not imported for --help

EXPORTED_ITEMS = 20  # pictures or clips of each exported split, without --limit

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", parser=parse_path, help="Root of the data.", show_default=False),
]
SeenOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--without-coco-overlap",
        metavar="FILE",
        parser=parse_path,
        help="Also report figures without COCO pictures of the training data: ids, file names, COCO JSON or refs. "
        "Repeatable.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class BenchmarkChoice:
    """Benchmarks and items of an evaluation, as options."""

    benchmarks: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmarks", "-b", metavar="NAME[,NAME...]", help='Benchmarks, or "all" that have data. Repeatable.'
        ),
    ] = None
    data: DataOption = None
    exported: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=parse_path,
            help="All benchmarks on drawn scenes, exported to DIR.",
            show_default=False,
        ),
    ] = None
    split: Annotated[
        str, typer.Option(help="Test set of drawn scenes: dev to choose by, report for figures to quote.")
    ] = "dev"
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed of generated items, or of the choice of --limit items.")
    ] = None
    limit: Annotated[
        int | None, typer.Option("--limit", "--items", min=1, help="Number of items of each benchmark.")
    ] = None
    prompts: Annotated[
        Wording, typer.Option(help="Wording of the questions: of our models, or of the released evaluation.")
    ] = "ours"
    keyframes: Annotated[
        Keyframes | None,
        typer.Option(help="Frames of a clip that the model reads.", show_default="as the model was trained"),
    ] = None
    num_keyframes: Annotated[
        int | None, typer.Option(min=1, help="How many of them.", show_default="as the model was trained")
    ] = None
    without_coco_overlap: SeenOption = None

    def build(self, extensions: Sequence[str], quiet: bool) -> "list[Benchmark[Any]]":
        """Build the benchmarks, and all generated ones of some extensions.

        Raises:
            ValueError: nothing is named, a name is unknown, or the data is missing.
        """
        from sa2va.evaluation.benchmark import Selection
        from sa2va.evaluation.catalog import ALL, build_benchmarks, build_public, list_benchmarks

        names = split_names(self.benchmarks or ())
        generated = list_benchmarks()
        options: Any = {"split": self.split, "seed": self.seed, "limit": self.limit}
        built = [one for name in extensions for one in build_benchmarks(extension=name, **options)]
        taken = {one.name for one in built}
        built += build_benchmarks([name for name in names if name in generated and name not in taken], **options)
        public = [name for name in names if name not in generated]
        if self.data is not None and self.exported is not None:
            raise ValueError("--data and --exported: both are roots of the data; give one of them")
        how: Any = {name: getattr(self, name) for name in ("split", "prompts", "keyframes", "num_keyframes")}
        given = self.exported or self.data
        root = None if given is None else given.absolute()  # answers are scored again from any folder
        if self.exported is not None:
            export_missing(self.exported, self.split, self.seed, self.limit or EXPORTED_ITEMS, quiet)
            built += build_public(public or [ALL], Selection(root=root, **how))
        elif public:
            built += build_public(public, Selection(root=root, limit=self.limit, seed=self.seed, **how))
        if not built:
            flags = [f"--{name}" for name, module in load_extensions().items() if hasattr(module, "BENCHMARKS")]
            raise ValueError(f"nothing to evaluate; add {', '.join([*flags, '--benchmarks NAME --data DIR'])}")
        return built

    @property
    def is_drawn(self) -> bool:
        """Whether all items are drawn scenes."""
        return self.data is None


def split_names(several: Sequence[str]) -> list[str]:
    """Return the names of a repeatable option whose values may be lists with commas."""
    return [name.strip() for one in several for name in one.split(",") if name.strip()]


def export_missing(folder: Path, split: str, seed: int | None, items: int, quiet: bool) -> None:
    """Export the drawn scenes of every benchmark that is not in a folder yet.

    Raises:
        ValueError: the extension is not installed, or the folder cannot be written.
    """
    exports = collect("EXPORTS")
    if not exports:
        raise ValueError("--exported: the extension world is not installed; install the whole package again")
    for reference in exports.values():
        for name in resolve(reference)(folder, split=split, seed=seed, num_items=items):
            remark(f"exported {name} to {folder}", quiet)


def takes_benchmarks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option `--NAME` per extension with benchmarks, and those of BenchmarkChoice.

    The command gets the chosen extensions as `extensions` and the choice as `wanted`. A deleted extension keeps a
    hidden option; using it is an error that names the extension.
    """
    flags = {
        name: (Annotated[bool, typer.Option(f"--{name}", help=f"All benchmarks of the extension {name}.")], False)
        for name, module in load_extensions().items()
        if hasattr(module, "BENCHMARKS")
    }
    flags |= {name: (Annotated[bool, typer.Option(f"--{name}", hidden=True)], False) for name in missing_extensions()}
    with_flags = takes(command, "extensions", flags, lambda values: [name for name in flags if values[name]])
    return takes(with_flags, "wanted", dataclass_options(BenchmarkChoice), lambda values: BenchmarkChoice(**values))


@dataclass(frozen=True)
class Scale(Spread):
    """Batches and processes of an evaluation, as options."""

    batch: Annotated[int | None, spread_option("--batch", None, "Items that go through the model together.", min=1)] = (
        None
    )

    def find_place(self, output: Path | None) -> "Shard":
        """Return the part of this process.

        Raises:
            ValueError: malformed or contradicting options, several processes without a common folder, or a report in
                it that was not written by an evaluation.
        """
        from sa2va.evaluation.runner import require_own_folder

        part = self.find_shard()
        if output is None and (part.count > 1 or self.ray):
            raise ValueError(f"{'--ray' if self.ray else '--shard'}: the parts need a common folder; add -o FOLDER")
        if output is not None:
            require_own_folder(output)
        return part


def takes_scale(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option per field of Scale to a command, which receives it as `scale`."""
    return takes(command, "scale", dataclass_options(Scale), lambda values: Scale(**values))


@takes_model
@takes_judge
@takes_scale
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    output: OutputOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if a figure misses its bar.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    extensions: list[str],
    wanted: BenchmarkChoice,
    choice: ModelChoice,
    judged_by: JudgeChoice,
    scale: Scale,
) -> None:
    """Evaluate a model: every figure with its 95 % interval and its chance baseline.

    With -o, every answer is kept in FOLDER/answers-*.jsonl, and the same command again resumes. Processes with
    different --shard may write to one folder; the last one reports all. `sa2va score FOLDER` scores the answers again.
    """
    from sa2va.evaluation.on_ray import evaluate_on_ray
    from sa2va.evaluation.overlap import read_seen
    from sa2va.evaluation.report import show
    from sa2va.evaluation.runner import evaluate as run
    from sa2va.evaluation.stamp import describe_run
    from sa2va.inference.embedded import drawn_scenes

    if absent := [name for name in extensions if name in missing_extensions()]:
        raise ValueError(f"--{absent[0]}: the extension {absent[0]} is not installed; install the whole package again")
    part = scale.find_place(output)  # before the model is loaded
    judging, seen = judged_by.judging(output), read_seen(wanted.without_coco_overlap or ())
    benchmarks = wanted.build(extensions, quiet)
    predictor = choice.of_process().load()
    described = describe_run(predictor, model, **choice.sources())
    settings: Any = {"batch_size": scale.batch, "progress": not quiet, "seen": seen}
    with judging, drawn_scenes() if wanted.is_drawn else nullcontext():
        if scale.ray and output is not None:
            on_ray: Any = {"num_workers": scale.workers, "num_gpus": scale.gpus_per_worker, **settings}
            report = evaluate_on_ray(choice.load, benchmarks, described, output, scale.ray, **on_ray)
        else:
            report = run(predictor, benchmarks, described, folder=output, shard=part, **settings)
    show(report, as_json=as_json)
    if check and not report.passed:
        raise typer.Exit(CHECK_FAILED)


@takes_judge
def score(
    folder: Annotated[
        Path,
        typer.Argument(metavar="OUT", parser=parse_path, help="Folder of sa2va eval -o, or of other predictions."),
    ],
    benchmarks: Annotated[
        list[str] | None,
        typer.Option("--benchmarks", "-b", metavar="NAME[,NAME...]", help="What other predictions are of. Repeatable."),
    ] = None,
    data: DataOption = None,
    without_coco_overlap: SeenOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    judged_by: JudgeChoice,
) -> None:
    """Score answers without a model: those of an evaluation again, or masks and captions that another program wrote.

    The report of an evaluation is written again. Nothing is written into a folder of other predictions.
    """
    from sa2va.evaluation.benchmark import Selection
    from sa2va.evaluation.catalog import build_public
    from sa2va.evaluation.overlap import read_seen
    from sa2va.evaluation.recorded import score_recorded
    from sa2va.evaluation.report import show
    from sa2va.evaluation.runner import score_folder

    seen = read_seen(without_coco_overlap or ())
    if benchmarks:
        built = build_public(split_names(benchmarks), Selection(split="", root=data))
        show(score_recorded(built, folder, seen=seen), as_json=as_json)
        return
    with judged_by.judging(folder):
        report = score_folder(folder, root=data, seen=seen)
    show(report, as_json=as_json)
