"""Score gaze on drawn scenes that nobody trained on: `sa2va gaze eval --world`.

Flow: a model with gaze weights -> gaze/evaluation/drawn.py -> one table, what our rows should reach, and how bits fall
    when words are told late.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sa2va.apps.commands.gaze_rows import choose_rivals, row_table
from sa2va.apps.report import remark

if TYPE_CHECKING:
    from rich.console import Console

    from sa2va.gaze.evaluation.drawn import DrawnReport, HeldOut
    from sa2va.gaze.model.decoder import EventDecoder
    from sa2va.gaze.rivals.base import Rival
    from sa2va.gaze.training.drawn import Beliefs

LEARNED, LEARNED_PEOPLE = 400, 3  # what the re-built decoders, and ours beside them, learn from
SLOT_WIDTH = 104  # gives the re-built decoders as many parameters as the embedded one has
DELAYS = 40  # expressions on which words are told late


@dataclass(frozen=True)
class WorldRequest:
    """What was asked for; see the options of `sa2va gaze eval`."""

    model: str
    gaze: Path | None
    eyes: Path | None
    store: Path | None
    plots: Path | None
    items: int
    samples: int
    learned: bool
    seed: int


def evaluate_world(asked: WorldRequest, *, as_json: bool, quiet: bool) -> None:
    """Score a model on drawn scenes and print what came out.

    Raises:
        ValueError: a folder to write is no folder; before the work, which takes long.
    """
    for option, folder in {"--store": asked.store, "--plots": asked.plots}.items():
        if folder is not None:
            require_folder(option, folder)
    with tempfile.TemporaryDirectory() as scratch:
        report = run(asked, asked.store or Path(scratch), lambda line: remark(line, quiet))
    if asked.plots is not None:
        from sa2va.gaze.evaluation.plots import draw_plots

        for path in draw_plots(report, asked.plots):
            remark(f"wrote {path}", quiet)
    if as_json:
        print(json.dumps(as_record(report, asked)))
    else:
        show(report, asked)


def require_folder(option: str, folder: Path) -> None:
    """See that a folder is there or can be made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{option} {folder}: {there} is a file; expected a folder, give another name")


def run(asked: WorldRequest, folder: Path, tell: Callable[[str], None]) -> "DrawnReport":
    """Hear what has not been heard yet, and score."""
    from sa2va.gaze.evaluation.drawn import PEOPLE, evaluate_drawn, prepare
    from sa2va.gaze.predictor import load_decoder, load_gaze

    predictor = load_gaze(asked.model, gaze=asked.gaze, device="cpu", dtype="float32")
    decoder = predictor.model.decoder
    ours: list[tuple[str, EventDecoder, Beliefs]] = [("event decoder on Sa2VA", decoder, "model")]
    if asked.eyes is not None:
        ours.append(("event decoder, what words may mean given", load_decoder(asked.eyes), "possible"))
    grid, model = decoder.config.grid, predictor.model
    held = prepare(folder / "held-out", asked.items, PEOPLE, grid, model, seed=asked.seed)
    tell(f"{len(held.viewings)} expressions heard")
    known = prepare(folder / "learned", LEARNED, LEARNED_PEOPLE, grid, model, seed=asked.seed, split="train")
    others, equal = learned_alike(known, held, decoder, tell) if asked.learned else ([], [])
    ladder = choose_rivals(oracle=True, learned=False)
    return evaluate_drawn(
        held,
        [*ours, *equal],
        [*others, *ladder],
        known.trials,
        num_samples=asked.samples,
        delays=min(DELAYS, asked.items),
        seed=asked.seed,
        tell=tell,
    )


def learned_alike(
    known: "HeldOut", held: "HeldOut", decoder: "EventDecoder", tell: Callable[[str], None]
) -> "tuple[list[Callable[[], Rival]], list[tuple[str, EventDecoder, Beliefs]]]":
    """Train ours and the two re-built decoders on the same scanpaths, with as many steps and rates."""
    from sa2va.gaze.evaluation.equals import Budget, Fitted, fit_events, fit_slots, num_parameters
    from sa2va.gaze.rivals.slots import ART, SCANVLA

    budget = Budget()
    made = fit_events(decoder.config, known.store, budget)
    tell(f"ours trained as the others are: {num_parameters(made)} parameters")
    rivals: list[Callable[[], Rival]] = []
    for config in (ART, SCANVLA):
        slots = fit_slots(replace(config, width=SLOT_WIDTH), known.store, known.trials, budget)
        tell(f"{slots.name}: {num_parameters(slots.decoder)} parameters, rate {slots.config.rate:g}")
        rivals.append(lambda slots=slots: Fitted(slots, held.store))
    return rivals, [("event decoder, trained as those below", made, "model")]


def as_record(report: "DrawnReport", asked: WorldRequest) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "model": asked.model,
        "items": asked.items,
        "seed": asked.seed,
        "rows": [{"name": row.name, "cases": row.num_cases, "figures": row.figures} for row in report.rows],
        "bars": {name: [asdict(bar) for bar in bars] for name, bars in report.bars.items()},
        "delays": [{"slower": curve.slower, "bits": curve.bits, "best": curve.best} for curve in report.delays],
    }


def show(report: "DrawnReport", asked: WorldRequest) -> None:
    """Print the table and what follows from it."""
    from rich.console import Console

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 280)
    console.print(row_table(report.rows, partial=False))
    console.print(
        f"{asked.items} held-out expressions of seed {asked.seed}, nine people each, {asked.samples} samples; "
        "bits: above a uniform density. The people's own law knows everything but who they are."
    )
    for name, bars in report.bars.items():
        console.print(f"\n{name}")
        for bar in bars:
            console.print(
                f"  {'ok' if bar.ok else '[bold red]no[/]'}  {bar.name}: {bar.value:.3f} (wanted {bar.wanted})"
            )
    show_delays(report, console)


def show_delays(report: "DrawnReport", console: "Console") -> None:
    """Print bits per fixation where words are told late."""
    if report.delays:
        console.print("\nbits per fixation when the model is told every word but the first later, ms")
    for curve in report.delays:
        cells = "  ".join(f"{shift:+.0f}: {bits:.3f}" for shift, bits in sorted(curve.bits.items()))
        console.print(f"  people {curve.slower:+.0f} ms slower  {cells}  best {curve.best:+.0f} ms")
