"""Train and evaluate the runs of the ablations, each in a folder of its own, one line of runs.jsonl per finished run.

Flow: arms, seeds -> list_runs -> run_arm: training/run.py (SupervisedRun, link.py) -> evaluation/runner.py on the
    exported benchmarks -> runs.jsonl. A killed command goes on with the last state of the run and with the answers
    that are there; two processes share the runs by `Shard`.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va.checkpoints.find import find_model
from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.catalog import build_public, is_usable
from sa2va.evaluation.judge import judging
from sa2va.evaluation.report import Report
from sa2va.evaluation.runner import evaluate
from sa2va.evaluation.stamp import describe_run, hash_files, list_model_files
from sa2va.inference.embedded import drawn_scenes
from sa2va.inference.loading import load
from sa2va.journal import Journal, content_key
from sa2va.training.provenance import RECORD_FILE, find_commit
from sa2va.training.run import train_run
from sa2va.training.state import is_finished, mark_finished
from sa2va.training.supervised import SupervisedConfig, SupervisedRun
from sa2va.world.ablations.arms import COLUMNS, Arm, Column
from sa2va.world.ablations.judge import ShareJudge
from sa2va.world.ablations.link import KEPT, damage_link
from sa2va.world.training.recipes import world_layouts

if TYPE_CHECKING:
    from sa2va.model.processor import Processor
    from sa2va.model.sa2va import Sa2VA

RUNS = "runs.jsonl"
LORA_RANK = 16  # of 256 dimensions, as the paper's 128 of 896


@dataclass(frozen=True, kw_only=True)
class AblationRun(SupervisedRun):
    """Supervised run that begins with a damaged link between the language model and SAM 2."""

    def prepare(self, model: "Sa2VA", processor: "Processor") -> "tuple[Sa2VA, Processor]":
        damage_link(model, processor, self.seed)
        return super().prepare(model, processor)

    @property
    def origin(self) -> tuple[str, ...]:
        return (*super().origin, f"link={KEPT}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs of an ablation share.

    Attributes:
        data: root of the exported layouts.
        start: model that the runs start from.
        steps: of each run.
        batch_size: samples of a step.
        lr: learning rate.
        items: of each benchmark.
        engine: folder with the Ref-SAV that the data engine wrote; None leaves its arm out.
    """

    data: Path
    start: str
    steps: int
    batch_size: int
    lr: float
    items: int
    engine: Path | None


@dataclass(frozen=True)
class PlannedRun:
    """One run: an arm with a seed."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.name}-{self.seed}"


def list_runs(arms: Sequence[Arm], num_seeds: int, settings: Settings) -> list[PlannedRun]:
    """List the runs, all arms of a seed before the next seed; the engine's are left out without its folder."""
    distinct = {arm.name: arm for arm in arms}.values()
    usable = [arm for arm in distinct if settings.engine is not None or not arm.needs_engine]
    return [PlannedRun(arm, seed) for seed in range(num_seeds) for arm in usable]


def build_config(run: PlannedRun, settings: Settings) -> AblationRun:
    """Build the configuration of a run: the recipe of the exported layouts with the arm's mixture."""
    recipe = world_layouts()
    assert isinstance(recipe, SupervisedRun)
    (stage,) = recipe.stages
    assert isinstance(stage, SupervisedConfig)
    stage = replace(
        stage,
        datasets=run.arm.datasets(settings.engine),
        data=str(settings.data),
        steps=settings.steps,
        batch_size=settings.batch_size,
        lr=settings.lr,
        lora_rank=LORA_RANK,
        lora_dropout=0.0,
        # What a small model on a CPU gains nothing by.
        gradient_checkpointing=False,
        autocast=False,
        halves_frozen=False,
        save_every_s=60,
    )
    own: dict[str, Any] = {
        "name": "ablation", "start": settings.start, "seed": run.seed, "seg_design": run.arm.seg_design,
        "stages": (stage,), "threads": 1, "device": "cpu",
    }  # fmt: skip
    values = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
    return AblationRun(**(values | own))


def key_of(run: PlannedRun, settings: Settings) -> str:
    """Return the key of a run's line in runs.jsonl: everything that decides its figures but the code."""
    return content_key({"config": asdict(build_config(run, settings)), "items": settings.items})


def find_columns() -> list[Column]:
    """List the columns whose benchmarks can be run; without lmms-eval there are only some."""
    return [column for column in COLUMNS if is_usable(column.benchmark)]


def run_arm(run: PlannedRun, settings: Settings, folder: Path, quiet: bool = False) -> dict[str, Any]:
    """Train and evaluate one run, or resume it.

    Args:
        run: arm and seed.
        settings: of all runs.
        folder: of the ablations; the run lies in its own folder below.
        quiet: print no progress.

    Returns:
        The line of runs.jsonl: figures and their chance by column, and how they came about.

    Raises:
        ValueError: the data or the start model is missing.
    """
    own, began = folder / run.name, time.monotonic()
    hours, commit = train_arm(run, settings, own, quiet)
    report = evaluate_model(own / "model", settings, own / "eval", quiet)
    start = find_model(settings.start)
    return {
        "arm": run.arm.name,
        "seed": run.seed,
        **read_figures(report),
        "steps": settings.steps if run.arm.groups else 0,
        "batch_size": settings.batch_size,
        "lr": settings.lr,
        "items": settings.items,
        "train_s": round(3600 * hours),
        "last_call_s": round(time.monotonic() - began),  # with the evaluation; less than all of it after a kill
        "commit": commit,
        "start": hash_files(start, list_model_files(start)),
        "model": report.run.model_hash,
        "code": report.run.code_hash,
    }


def train_arm(run: PlannedRun, settings: Settings, folder: Path, quiet: bool) -> tuple[float, str | None]:
    """Train a run into `folder`/model, or only damage its link if it has no data; return hours and commit."""
    config, model = build_config(run, settings), folder / "model"
    if run.arm.groups:
        train_run(config, folder, quiet, f"sa2va ablate: {run.name}")
        trained = json.loads((model / RECORD_FILE).read_text(encoding="utf-8"))
        return trained["hours"], trained["commit"]
    if not is_finished(folder, config):
        config.save(*config.build_model(folder), folder)
        mark_finished(folder, config, [model])
    return 0.0, find_commit()


def evaluate_model(model: Path, settings: Settings, folder: Path, quiet: bool) -> Report:
    """Evaluate a model on the columns, on split dev of the drawn scenes."""
    names = list(dict.fromkeys(column.benchmark for column in find_columns()))
    benchmarks = build_public(names, Selection(split="", root=settings.data.absolute(), limit=settings.items))
    predictor = load(model, device="cpu")
    with judging(ShareJudge()), drawn_scenes():
        return evaluate(predictor, benchmarks, describe_run(predictor, model), folder=folder, progress=not quiet)


def read_figures(report: Report) -> dict[str, dict[str, float]]:
    """Read the columns from a report: `figures` and, where the benchmark has one, `chance`."""
    found = {section.name: {one.name: one for one in section.figures} for section in report.sections}
    figures, chance = {}, {}
    for column in find_columns():
        several = [found[column.benchmark][name] for name in column.figures]
        values = [one.value for one in several if one.value is not None]
        blind = [one.chance for one in several if one.chance is not None]
        if len(values) == len(several):
            figures[column.name] = round(column.scale * sum(values), 4)
        if len(blind) == len(several):
            chance[column.name] = round(column.scale * sum(blind), 4)
    return {"figures": figures, "chance": chance}


def run_all(runs: Sequence[PlannedRun], settings: Settings, folder: Path, quiet: bool = False) -> Iterator[str]:
    """Run what is not in runs.jsonl yet, and yield a line about each run."""
    for run in runs:
        with Journal(folder / RUNS) as journal:  # opened again, to see the lines of other processes
            key = key_of(run, settings)
            if journal.done(key):
                yield f"{run.name}: done already"
                continue
            row = run_arm(run, settings, folder, quiet)
            journal.append(key, row)
        yield f"{run.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in row["figures"].items())
