"""Show everything the embedded model does, in the terminal and as one HTML page: `sa2va demo`.

Flow: a user's media -> demo/exhibits.py; seed -> exhibits of extensions, evaluation/ (figures) -> demo/page.py.
"""

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sa2va
from sa2va.apps.options import ModelChoice, QuietOption, parse_path, takes_model
from sa2va.apps.report import remark
from sa2va.extensions import collect, missing_extensions, resolve
from sa2va.files.atomic import write_text
from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from rich.console import Console

    from sa2va.apps.demo.page import Exhibit, Row
    from sa2va.inference.predictor import Predictor
    from sa2va.media.source import Media

MAX_SEED = 1_000_000
SHEET_COLUMNS = 4
PAGE, SHEET, PICTURES = "index.html", "contact_sheet.png", "pictures"
FILES = Claim(
    (
        r"index\.html",
        r"contact_sheet\.png",
        r"pictures/\d\d_.+\.png",
        r"(track_\d|conversation|own|gaze)\.mp4",
    )
)


@takes_model
def demo(
    media: Annotated[str | None, typer.Option("--media", metavar="PATH", help="Image or video of your own.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", parser=parse_path, help="Folder for the page.")
    ] = Path("demo"),
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed of the scenes; a new one each time.")] = None,
    items: Annotated[int, typer.Option(min=0, help="Evaluation items per task; 0 skips evaluation.")] = 40,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Chat, caption, segment and track on new scenes, evaluate, and write one HTML page."""
    from rich.console import Console

    from sa2va.apps.demo.page import Page, render_page
    from sa2va.inference.embedded import warn_once
    from sa2va.media.source import open_media

    start = time.perf_counter()
    own = open_media(media) if media is not None else None  # a damaged file is reported before the work
    missing = ", ".join(missing_extensions())
    if missing and not own and not collect("EXHIBITS"):
        raise ValueError(f"the demo needs the extensions {missing}, which are not installed; add --media PATH")
    seed = secrets.randbelow(MAX_SEED) if seed is None else seed
    with staged(output, FILES, own.files if own else ()) as scratch:
        assert scratch is not None
        if missing:
            remark(f"left out, since the extensions are not installed: {missing}", quiet)
        if own and choice.model == "tiny":
            warn_once()  # before the model is loaded
        console = Console(quiet=quiet, highlight=False)
        predictor = choice.load()
        exhibits = run_sections(console, predictor, seed, scratch, own, choice.folder())
        rows = measure(predictor, choice, seed, items, quiet) if items else []
        if rows:
            console.print(figure_table(rows))
        write_pictures(exhibits, scratch)
        seconds = time.perf_counter() - start
        page = Page(
            title="Sa2VA, the embedded model",
            introduction=(
                "Everything on this page was drawn, asked, answered and measured a moment ago, on scenes that the "
                "model has never seen.",
                f"Scenes of seed {seed}; sa2va demo --seed {seed} shows the same ones again.",
            ),
            exhibits=exhibits,
            rows=rows,
            footer=(f"sa2va {sa2va.__version__}, model {choice.model}, {seconds:.0f} seconds.",),
        )
        write_text(scratch / PAGE, render_page(page))
    # A path that is broken over two lines can be neither clicked nor copied.
    console.print(f"\n[bold]{in_markup(str(output / PAGE))}[/bold]  the page: open it in a browser", soft_wrap=True)
    console.print(f"{in_markup(str(output / SHEET))}  all pictures on one sheet", soft_wrap=True)


def run_sections(
    console: "Console", predictor: "Predictor", seed: int, scratch: Path, own: "Media | None", folder: Path
) -> list["Exhibit"]:
    """Run the exhibits: the user's media first, then those of extensions; print each when it is done."""
    from sa2va.apps.demo.exhibits import show_own
    from sa2va.inference.embedded import drawn_scenes

    exhibits: list[Exhibit] = []

    def run(source: "Iterable[Exhibit]") -> None:
        for exhibit in source:
            if not exhibits or exhibit.section != exhibits[-1].section:
                console.print(f"\n[bold]{in_markup(exhibit.section)}[/bold]")
            print_exhibit(console, exhibit)
            exhibits.append(exhibit)

    if own:
        run(show_own(predictor, own, scratch))
    with drawn_scenes():
        for reference in collect("EXHIBITS").values():
            run(resolve(reference)(predictor, folder, seed, scratch))
    return exhibits


def print_exhibit(console: "Console", exhibit: "Exhibit") -> None:
    """Print the questions, answers and notes of one exhibit."""
    marks = {True: "[green]right[/green]", False: "[red]wrong[/red]", None: ""}
    for exchange in exhibit.exchanges:
        console.print(f"  [dim]{in_markup(exchange.question)}[/dim]")
        console.print(f"    {in_markup(exchange.answer)}  {marks[exchange.right]}")
        if exchange.right is False and exchange.expected:
            console.print(f"    [dim]expected: {in_markup(exchange.expected)}[/dim]")
    for note in exhibit.notes:
        console.print(f"    [dim]{in_markup(note)}[/dim]")


def measure(predictor: "Predictor", choice: ModelChoice, seed: int, items: int, quiet: bool) -> list["Row"]:
    """Evaluate on scenes of this seed, and add the figures of the model card."""
    from sa2va.apps.demo.page import Row
    from sa2va.evaluation.catalog import build_benchmarks
    from sa2va.evaluation.runner import evaluate
    from sa2va.evaluation.stamp import describe_run
    from sa2va.inference.embedded import drawn_scenes

    benchmarks = build_benchmarks(split="dev", seed=seed, limit=items)
    if not benchmarks:
        return []
    run = describe_run(predictor, choice.model, **choice.sources())
    with drawn_scenes():
        report = evaluate(predictor, benchmarks, run, progress=not quiet)
    card = read_card(choice.folder())
    return [
        Row(task=section.title, figure=figure, card=card.get((section.name, figure.name)))
        for section in report.sections
        for figure in section.figures
    ]


def read_card(folder: Path) -> dict[tuple[str, str], float]:
    """Read the figures of a model's card: (benchmark, figure) -> value; empty without a report.

    Raises:
        ValueError: report.json is something else.
    """
    from sa2va.files.read_limits import MAX_DATA_BYTES, read_bounded

    path = folder / "report.json"
    if not path.exists():
        return {}
    try:
        return {
            (benchmark, name): float(figure["value"])
            for benchmark, figures in json.loads(read_bounded(path, MAX_DATA_BYTES))["benchmarks"].items()
            for name, figure in figures.items()
            if figure["value"] is not None
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ").splitlines()[0]
        raise ValueError(f"{path}: not a report of sa2va eval ({reason}); move it away or evaluate again") from error


def write_pictures(exhibits: Sequence["Exhibit"], scratch: Path) -> None:
    """Write each picture as a PNG, and all of them on one sheet."""
    from sa2va.draw.overlay import contact_sheet
    from sa2va.media.pictures import save_image

    shown = [(exhibit.picture, exhibit.title) for exhibit in exhibits if exhibit.picture is not None]
    for number, (picture, title) in enumerate(shown, 1):
        save_image(scratch / PICTURES / f"{number:02d}_{title.replace(' ', '_').replace('.', '_')}.png", picture)
    shown.sort(key=lambda entry: entry[0].shape[0] != entry[0].shape[1])  # square ones first; they set the cell's shape
    pictures, titles = zip(*shown, strict=True)
    save_image(scratch / SHEET, contact_sheet(list(pictures), SHEET_COLUMNS, list(titles)))


def figure_table(rows: Sequence["Row"]) -> object:
    """Build the terminal table of figures: measured here, on the model card, chance baseline."""
    from rich.table import Table

    table = Table(title="\nMeasured just now", title_justify="left", box=None, pad_edge=False)
    for name in ("task", "figure"):
        table.add_column(name)
    for name in ("here", "card", "chance", "items"):
        table.add_column(name, justify="right")
    task = ""
    for row in rows:
        shown = "" if row.task == task else row.task
        task = row.task
        numbers = ["" if value is None else f"{value:.2f}" for value in (row.figure.value, row.card, row.figure.chance)]
        table.add_row(shown, in_markup(row.figure.name), *numbers, str(row.figure.num_items))
    return table
