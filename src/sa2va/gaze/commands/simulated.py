"""Evaluate gaze on held-out synthetic scenes: `sa2va gaze eval --world [--split report]`.

Flow: a model with gaze weights -> gaze/evaluation/simulated.py -> one table, confidence intervals, criteria for our
    rows, and bits as a function of word delay; with -o, report.json and table.md.
"""

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sa2va.apps.options import CHECK_FAILED, ModelChoice
from sa2va.apps.report import remark
from sa2va.files.staging import staged
from sa2va.gaze.commands.rows import choose_baselines, print_page, write_page

if TYPE_CHECKING:
    from sa2va.gaze.baselines.base import Baseline
    from sa2va.gaze.evaluation.fits import Fits
    from sa2va.gaze.evaluation.simulated import HeldOut, Ours, SimulatedReport
    from sa2va.gaze.model.decoder import EventDecoder
    from sa2va.world.scenes.splits import Split

LEARNED, LEARNED_PEOPLE = 400, 3  # expressions, and observers of each, to train the equal-budget decoders on
SLOT_WIDTH = 100  # width at which the rebuilt decoders have as many parameters as the embedded one
DELAYS = 40  # expressions to measure word delays on


@dataclass(frozen=True, kw_only=True)
class WorldRequest:
    """Options of `sa2va gaze eval --world`."""

    choice: ModelChoice
    split: str
    seed: int | None  # random seed of the split; None = its default
    items: int
    samples: int
    learned: bool
    gaze: Path | None = None
    pretrained: Path | None = None
    store: Path | None = None
    plots: Path | None = None
    output: Path | None = None
    jobs: int = -1
    check: bool = False

    @property
    def drawn(self) -> "Split":
        """The split; raises ValueError for an unknown name, or for a report split with a seed other than its own."""
        from sa2va.world.scenes.splits import find_split

        return find_split(self.split, self.seed)


def evaluate_world(asked: WorldRequest, *, as_json: bool, quiet: bool) -> None:
    """Evaluate a model on synthetic scenes; print the results and write them if requested.

    Raises:
        ValueError: an output path is not a folder, or no such split; raised before the evaluation.
        typer.Exit: with `check`, a figure misses its bar.
    """
    for option, folder in {"--store": asked.store, "--plots": asked.plots, "-o": asked.output}.items():
        if folder is not None:
            require_folder(option, folder)
    split = asked.drawn
    from sa2va.gaze.evaluation.markdown import simulated_page
    from sa2va.gaze.evaluation.plots import FILES, draw_plots, require_matplotlib

    if asked.plots is not None:
        require_matplotlib()
    with staged(asked.plots, FILES) as plots, tempfile.TemporaryDirectory() as scratch:
        report = run(asked, asked.store or Path(scratch), lambda line: remark(line, quiet))
        if asked.plots is not None and plots is not None:
            for path in draw_plots(report, plots):
                remark(f"wrote {asked.plots / path.name}", quiet)
    drawn = f"{asked.items} expressions of split {asked.split}, seed {split.seed}"
    heading = f"{drawn}; nine people each, {asked.samples} samples."
    record, page = as_record(report, asked), simulated_page(report, heading)
    if asked.output is not None:
        for path in write_page(asked.output, record, page):
            remark(f"wrote {path}", quiet)
    if as_json:
        print(json.dumps(record, allow_nan=False))
    else:
        print_page(page)
    if asked.check and not report.passed:
        raise typer.Exit(CHECK_FAILED)


def require_folder(option: str, folder: Path) -> None:
    """Check that a folder exists or can be created."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{option} {folder}: {there} is a file; expected a folder, give another name")


def run(asked: WorldRequest, folder: Path, tell: Callable[[str], None]) -> "SimulatedReport":
    """Fill the store and score; groundings and fitted baselines in `folder` are reused."""
    from sa2va.gaze.evaluation.fits import Fits
    from sa2va.gaze.evaluation.simulated import PEOPLE, TRAINING_SPLIT, evaluate_simulated, prepare
    from sa2va.gaze.predictor import load_decoder, load_gaze
    from sa2va.gaze.training.store import fingerprint

    predictor = load_gaze(asked.choice.model, gaze=asked.gaze, **asked.choice.arguments())
    model, split = predictor.model, asked.drawn
    ours: list[Ours] = [("event decoder on Sa2VA", model.decoder, "model")]
    if asked.pretrained is not None:
        ours.append(("event decoder, oracle beliefs", load_decoder(asked.pretrained), "possible"))
    grid = model.decoder.config.grid
    held = prepare(folder / f"{split.name}-{split.seed}", split, asked.items, PEOPLE, grid, model)
    tell(f"{len(held.viewings)} expressions grounded")
    known = prepare(folder / "learned", TRAINING_SPLIT, LEARNED, LEARNED_PEOPLE, grid, model)
    model.decoder.to("cpu").float()  # groundings run on the model's device, scoring on the CPU
    fits = Fits(folder / "fits", f"{fingerprint(model.sa2va)} {known.store.config}")
    others, equal = learned_alike(known, held, model.decoder, fits, tell) if asked.learned else ([], [])
    return evaluate_simulated(
        held,
        ours,
        [*others, *choose_baselines(oracle=True, learned=False), in_picture],
        known.trials,
        equal=equal,
        num_samples=asked.samples,
        delays=min(DELAYS, asked.items),
        jobs=asked.jobs,
        tell=tell,
    )


def in_picture() -> "Baseline":
    """Return the random baseline restricted to the image, without the letterbox bars."""
    from sa2va.gaze.baselines.image_blind import RandomBaseline
    from sa2va.gaze.evaluation.simulated import PICTURE_BOX

    return RandomBaseline(PICTURE_BOX)


def learned_alike(
    known: "HeldOut", held: "HeldOut", decoder: "EventDecoder", fits: "Fits", tell: Callable[[str], None]
) -> "tuple[list[Callable[[], Baseline]], list[Ours]]":
    """Train our decoder and the two rebuilt ones on the same scanpaths, with equal numbers of steps and rates."""
    from sa2va.gaze.baselines.slots import ART, SCANVLA
    from sa2va.gaze.evaluation.equal_budget import Budget, Fitted, fit_events, fit_slots, num_parameters

    budget = Budget()
    made = fit_events(decoder.config, known.store, budget, fits)
    tell(f"event decoder, equal budget: {num_parameters(made)} parameters")
    baselines: list[Callable[[], Baseline]] = []
    for config in (ART, SCANVLA):
        slots = fit_slots(replace(config, width=SLOT_WIDTH), known.store, known.trials, budget, fits)
        tell(f"{slots.name}: {num_parameters(slots.decoder)} parameters, rate {slots.config.rate:g}")
        baselines.append(lambda slots=slots: Fitted(slots, held.store))
    return baselines, [("event decoder, equal budget", made, "model")]


def as_record(report: "SimulatedReport", asked: WorldRequest) -> dict[str, Any]:
    """Return the content of `--json` and report.json; non-finite numbers become null."""
    from sa2va.gaze.evaluation.simulated import PEOPLE, PICTURE_BITS
    from sa2va.gaze.evaluation.table import row_record, strongest_reference

    reference = strongest_reference(report.rows)
    return {
        "model": asked.choice.model,
        "split": asked.split,
        "seed": asked.drawn.seed,
        "items": asked.items,
        "people": PEOPLE,
        "samples": asked.samples,
        "reference": None if reference is None else reference.name,
        "bits of the picture": PICTURE_BITS,
        "passed": report.passed,
        "rows": [row_record(row) for row in report.rows],
        "bars": {name: [finite(asdict(bar)) for bar in bars] for name, bars in report.bars.items()},
        "delays": [finite({"slower": curve.slower, "bits": curve.bits, "best": curve.best}) for curve in report.delays],
    }


def finite(record: dict[str, Any]) -> dict[str, Any]:
    """Replace non-finite numbers by None, since JSON has none."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
