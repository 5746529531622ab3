"""Run the paper's ablations on drawn scenes: `sa2va ablate cotraining --data DATA -o OUT`, and write their page.

Flow: name of a table -> world/ablations/runs.py (train and evaluate each arm with each seed) -> runs.jsonl
    -> `sa2va ablate page OUT docs/ablations.md` -> tables and charts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import (
    OutputOption,
    QuietOption,
    build_group,
    dataclass_options,
    parse_path,
    require_finite,
    takes,
)
from sa2va.apps.report import remark, say

if TYPE_CHECKING:
    from sa2va.world.ablations.arms import Arm
    from sa2va.world.ablations.runs import Settings

app = build_group("Run the paper's ablations on drawn scenes.")
EVALUATION_S = 70.0  # seconds of a core, for 20 items of each benchmark
STEP_S = 2.4  # seconds of a core, for a step of 8 samples


@dataclass(frozen=True)
class AblationChoice:
    """Settings of the runs, as options."""

    data: Annotated[
        Path, typer.Option(metavar="DIR", parser=parse_path, help="Root of the exported layouts, splits train and dev.")
    ] = Path("data")
    start: Annotated[str, typer.Option(metavar="MODEL", help="Model that the runs start from.")] = "tiny"
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 3
    steps: Annotated[int, typer.Option(min=1, help="Steps of each run.")] = 80
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of a step.")] = 8
    lr: Annotated[float, typer.Option(min=0.0, callback=require_finite, help="Learning rate.")] = 2e-3
    items: Annotated[int, typer.Option(min=1, help="Number of items of each benchmark.")] = 20
    engine: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=parse_path, help="Folder with Ref-SAV.json of the data engine.", show_default=False
        ),
    ] = None
    shard: Annotated[str | None, typer.Option(metavar="i/n", help="Every n-th run from the i-th on.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and their hours; nothing is trained.")] = (
        False
    )

    def settings(self) -> "Settings":
        from sa2va.world.ablations.runs import Settings

        names = ("data", "start", "steps", "batch_size", "lr", "items", "engine")
        return Settings(**{name: getattr(self, name) for name in names})


def takes_ablation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option per field of AblationChoice to a command, which receives it as `choice`."""
    return takes(command, "choice", dataclass_options(AblationChoice), lambda values: AblationChoice(**values))


@app.command("cotraining")
@takes_ablation
def cotraining(output: OutputOption = None, quiet: QuietOption = False, *, choice: AblationChoice) -> None:
    """Train without each group of tasks in turn (the paper's Table 7).

    The same command again resumes; runs that another table shares are not repeated.
    """
    run_tables(["cotraining"], choice, output, quiet)


@app.command("seg-tokens")
@takes_ablation
def seg_tokens(output: OutputOption = None, quiet: QuietOption = False, *, choice: AblationChoice) -> None:
    """Train with each [SEG] design (the paper's Table 9); see cotraining."""
    run_tables(["seg-tokens"], choice, output, quiet)


@app.command("data-scale")
@takes_ablation
def data_scale(output: OutputOption = None, quiet: QuietOption = False, *, choice: AblationChoice) -> None:
    """Train with more data: Infinity-MM, Ref-SAV (the paper's Table 10); see cotraining."""
    run_tables(["data-scale"], choice, output, quiet)


@app.command("all")
@takes_ablation
def run_all_tables(output: OutputOption = None, quiet: QuietOption = False, *, choice: AblationChoice) -> None:
    """Run all three tables, all arms of a seed before the next seed; see cotraining."""
    from sa2va.world.ablations.arms import TABLES

    run_tables(list(TABLES), choice, output, quiet)


@app.command("page")
def page(
    folder: Annotated[Path, typer.Argument(metavar="OUT", parser=parse_path, help="Folder of the runs.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.md", parser=parse_path, help="Page to write.")],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds that are expected.")] = 3,
) -> None:
    """Write the tables of finished runs into a page, their charts and the raw lines into a folder beside it.

    Only what lies between the marks of the page is replaced.
    """
    import shutil

    from sa2va.files.atomic import whole_file
    from sa2va.world.ablations.page import update_page
    from sa2va.world.ablations.plots import draw_tables
    from sa2va.world.ablations.results import read_runs
    from sa2va.world.ablations.runs import RUNS

    if file.suffix != ".md" or file.is_dir():
        raise ValueError(f"{file}: expected the name of a page, as in docs/ablations.md")
    results, beside = read_runs(folder), file.with_suffix("")
    update_page(file, results, seeds)
    for chart in draw_tables(results, beside):
        say(str(chart))
    with whole_file(beside / RUNS) as part:
        shutil.copyfile(folder / RUNS, part)
    say(str(file))


def run_tables(tables: Sequence[str], choice: AblationChoice, output: Path | None, quiet: bool) -> None:
    """Run the arms of some tables, or list them.

    Raises:
        ValueError: no folder for the results, or no data.
    """
    from sa2va.evaluation.store import Shard
    from sa2va.training.mixture import find_folders
    from sa2va.world.ablations.arms import COLUMNS, TABLES
    from sa2va.world.ablations.runs import find_columns, list_runs, run_all

    arms = [arm for table in tables for arm in TABLES[table].arms()]
    settings, shard = choice.settings(), Shard.parse(choice.shard)
    tell_skipped(arms, settings, quiet)
    runs = list_runs(arms, choice.seeds, settings)
    mine = [run for number, run in enumerate(runs) if shard.has(number)]
    if missing := [column.name for column in COLUMNS if column not in find_columns()]:
        remark(f"columns {', '.join(missing)} are left out: lmms-eval is not installed", quiet)
    if choice.dry_run:
        hours = (STEP_S / 8 * choice.steps * choice.batch_size + EVALUATION_S * choice.items / 20) / 3600
        for run in mine:
            say(f"{run.name}: about {hours:.2f} hours of a core")
        say(f"{len(mine)} runs, about {hours * len(mine):.1f} hours of a core")
        return
    if output is None:
        raise ValueError("no folder for the runs; add -o FOLDER")
    find_folders([share for run in mine for share in run.arm.datasets(settings.engine)], str(settings.data))
    for line in run_all(mine, settings, output, quiet):
        say(line)


def tell_skipped(arms: "Sequence[Arm]", settings: "Settings", quiet: bool) -> None:
    """Say which arms are left out for want of the engine's data."""
    if settings.engine is None and any(arm.needs_engine for arm in arms):
        remark("refsav_engine is left out: it needs the Ref-SAV of sa2va synth; add --engine DIR", quiet)
