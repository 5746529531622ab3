"""Evaluate gaze models on simulated trials of held-out scenes, against people, the oracle and baselines.

Flow: stores of training expressions and of a split (world/scenes/splits.py) -> baselines to train, our trained decoders
    -> rows of table.py -> SimulatedReport: the table, our bars, and bits by the delay of the words.
Source: the upper bound is the oracle likelihood of gaze/simulator/likelihood.py.
Shapes: N expressions, V people of each, P packs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sa2va.gaze.baselines.base import Baseline
from sa2va.gaze.baselines.event_decoder import StoredBaseline
from sa2va.gaze.evaluation.bars import Bar, judge
from sa2va.gaze.evaluation.cases import Case, read_cases
from sa2va.gaze.evaluation.scores import EVERY_CORE
from sa2va.gaze.evaluation.table import Row, baseline_row, densities_of, finish_rows, measured_row, people_row
from sa2va.gaze.evaluation.tally import Measured, pooled_mean
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.likelihood import bits_per_fixation, uniform_log_density
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.simulator.cases import box_to_canvas
from sa2va.gaze.simulator.dataset import Viewing
from sa2va.gaze.simulator.likelihood import Estimate, estimate_bits
from sa2va.gaze.simulator.viewing import simulate_scanpath
from sa2va.gaze.timing import SpeechTiming
from sa2va.gaze.training.simulated import Beliefs, draw_viewings
from sa2va.gaze.training.store import Store, StoreConfig, fill, read
from sa2va.gaze.trial import Trial, on_canvas
from sa2va.world.scenes.splits import TRAIN, Split
from sa2va.world.tasks.items import SIDE

PEOPLE = 9
TRAINING_SPLIT = Split(TRAIN, 0)  # training data of the baselines, with observers of another seed than the test split
NUM_PARTICLES, REPEATS = 300, 3  # of the oracle; gives a standard error far below 0.02 bits
SHIFTS = (-150.0, -100.0, -50.0, 0.0, 50.0, 100.0, 150.0)  # ms, delay of the words
PICTURE_BOX = box_to_canvas((0.0, 0.0, float(SIDE), float(SIDE)))  # of every drawn image on the canvas, px
PICTURE_BITS = math.log2(  # bits of a uniform density over the image: 0.678
    CANVAS[0] * CANVAS[1] / (PICTURE_BOX[2] - PICTURE_BOX[0]) / (PICTURE_BOX[3] - PICTURE_BOX[1])
)
SLOWER = (-100.0, 0.0, 100.0)  # ms added to the observers' latency


@dataclass(frozen=True)
class HeldOut:
    """Held-out expressions with their simulated trials."""

    store: Store
    viewings: list[list[Viewing]]  # N times V

    @property
    def trials(self) -> list[Trial]:
        return [on_canvas(viewing.trial) for group in self.viewings for viewing in group]


def prepare(
    folder: Path, split: Split, num_cases: int, num_people: int, grid: Grid, model: ScanpathModel | None
) -> HeldOut:
    """Simulate and ground expressions, or read those that an earlier call stored in the folder."""
    config = StoreConfig(seed=split.seed, split=split.name, num_cases=num_cases, num_people=num_people)
    fill(folder, config, grid, model)
    store = read(folder, config, grid, None if model is None else model.sa2va)
    groups = [draw_viewings(split.seed, split.name, index, num_people) for index in range(num_cases)]
    return HeldOut(store, groups)


def oracle_row(
    held: HeldOut, *, particles: int = NUM_PARTICLES, repeats: int = REPEATS, seed: int = 0, jobs: int = EVERY_CORE
) -> tuple[Row, Estimate]:
    """Estimate the oracle's row: likelihoods under the simulator itself, with unknown observers."""
    scanpaths = [(one.case.stimulus, [step.fixation for step in one.steps]) for group in held.viewings for one in group]
    area = float(CANVAS[0] * CANVAS[1])
    found = estimate_bits(scanpaths, count=particles, repeats=repeats, seed=seed, area=area, jobs=jobs)
    sums, counts = (values.reshape(len(held.viewings), -1).sum(1) for values in (found.sums, found.counts))
    names = tuple(group[0].case.name for group in held.viewings)
    measured = Measured(names, names, {"bits": pooled_mean(sums, counts)})
    return measured_row("oracle likelihood (upper bound)", "people", measured), found


def ours_row(
    name: str,
    decoder: EventDecoder,
    held: HeldOut,
    cases: Sequence[Case],
    *,
    beliefs: Beliefs,
    num_samples: int,
    seed: int,
    jobs: int = EVERY_CORE,
) -> Row:
    """Score a trained decoder, fixation durations included."""
    baseline, folds = StoredBaseline(name, decoder, held.store, beliefs), [([], held.trials)]
    return baseline_row(lambda: baseline, cases, folds, num_samples=num_samples, seed=seed, timed=True, jobs=jobs)


@dataclass(frozen=True)
class DelayCurve:
    """Bits per fixation by the delay of the words given to the model, for observers of a shifted latency."""

    slower: float  # ms, added to the latency of training
    bits: dict[float, float] = field(default_factory=dict)  # by delay in ms

    @property
    def people(self) -> str:
        """Name of the population."""
        if not self.slower:
            return "people as in training"
        return f"people {abs(self.slower):.0f} ms {'slower' if self.slower > 0 else 'faster'}"

    @property
    def best(self) -> float:
        """Delay of the highest likelihood, ms: the vertex of a parabola through the three highest points."""
        shifts = np.array(sorted(self.bits))
        values = np.array([self.bits[shift] for shift in shifts])
        top = int(np.clip(values.argmax(), 1, len(shifts) - 2))
        square, line, _ = np.polyfit(shifts[top - 1 : top + 2], values[top - 1 : top + 2], 2)
        return float(-line / 2 / square) if square < 0 else float(shifts[values.argmax()])


def delay_curve(baseline: Baseline, held: HeldOut, num_cases: int, *, slower: float) -> DelayCurve:
    """Compute bits per fixation of observers of another latency, with the words delayed for the model.

    A model that has learned the latency assigns the highest likelihood at the delay that compensates the shift.
    """
    curve = DelayCurve(slower)
    for shift in SHIFTS:
        logs = []
        for index, group in enumerate(held.viewings[:num_cases]):
            delayed = []
            for number, viewing in enumerate(group):
                observer = replace(viewing.observer, latency=viewing.observer.latency + slower)
                steps = simulate_scanpath(viewing.case.stimulus, observer, [held.store.config.seed, index, number])
                delayed.append(_delay_words(viewing, [step.fixation for step in steps], shift))
            logs += densities_of(baseline, delayed)
        row = np.concatenate([np.asarray(one) for one in logs])
        curve.bits[shift] = bits_per_fixation(row, uniform_log_density(row.size, *CANVAS))
    return curve


def _delay_words(viewing: Viewing, fixations: Sequence[Fixation], shift: float) -> Trial:
    """Build a trial whose words after the first are shifted in time."""
    clock = viewing.case.timing
    moments = np.array([moment for word in zip(clock.onsets, clock.ends, strict=True) for moment in word])
    moments[1:] = np.maximum.accumulate(np.maximum(moments[1:] + shift, moments[0] + 1.0))
    timing = SpeechTiming(
        onsets=tuple(moments[::2].tolist()),
        ends=tuple(moments[1::2].tolist()),
        duration=max(clock.duration + shift, float(moments[-1])),
    )
    words = viewing.case.expression.words
    path = Scanpath.from_timing(fixations, words, timing, width=CANVAS[0], height=CANVAS[1], image=viewing.case.name)
    return replace(on_canvas(viewing.trial), scanpath=path, timing=timing)


Ours = tuple[str, EventDecoder, Beliefs]  # name, decoder, source of its beliefs


@dataclass(frozen=True, kw_only=True)
class SimulatedReport:
    """Rows, bars and delay curves of an evaluation on simulated gaze."""

    rows: list[Row]
    bars: dict[str, list[Bar]]  # by name of the row
    delays: list[DelayCurve]

    @property
    def passed(self) -> bool:
        """Whether the first of our rows, the evaluated model, reaches its bars."""
        return all(bar.ok for bar in next(iter(self.bars.values()), []))


def evaluate_simulated(
    held: HeldOut,
    ours: Sequence[Ours],
    others: Sequence[Callable[[], Baseline]],
    learned: Sequence[Trial],
    *,
    equal: Sequence[Ours] = (),
    num_samples: int = PEOPLE,
    delays: int = 0,
    seed: int = 0,
    jobs: int = EVERY_CORE,
    tell: Callable[[str], None] = lambda _: None,
) -> SimulatedReport:
    """Score our decoders, the oracle, people and baselines on held-out expressions.

    Args:
        held: Held-out expressions.
        ours: Our rows; the first one is tested against all others.
        others: Builders of baselines, which are trained on `learned`.
        learned: Training trials on the canvas.
        equal: Our rows with the training budget of the baselines, not compared with the bars.
        num_samples: Scanpaths per expression.
        delays: Number of expressions for the delay curves; 0 = none.
        seed: Random seed of the samples.
        jobs: Number of scoring processes; -1 = one per core.
        tell: Called with one line of progress per row.
    """
    cases = read_cases(held.trials)
    people = people_row(cases, jobs=jobs)
    oracle, estimate = oracle_row(held, jobs=jobs)
    tell(f"oracle likelihood: {estimate.value:.3f} bits, standard error {estimate.standard_error:.4f}")
    rows, bars = [oracle, people], {}
    for name, decoder, beliefs in [*ours, *equal]:
        tell(f"scoring {name}")
        made = ours_row(name, decoder, held, cases, beliefs=beliefs, num_samples=num_samples, seed=seed, jobs=jobs)
        rows.append(made)
        if name in [own for own, _, _ in ours]:
            bars[name] = judge(made, people, oracle)
    for make in others:
        rows.append(baseline_row(make, cases, [(learned, held.trials)], num_samples=num_samples, seed=seed, jobs=jobs))
        tell(f"scored {rows[-1].name}")
    curves = []
    if delays and ours:
        name, decoder, beliefs = ours[0]
        baseline = StoredBaseline(name, decoder, held.store, beliefs)
        curves = [delay_curve(baseline, held, delays, slower=slower) for slower in SLOWER]
        tell("scored the delay curves")
    finished = finish_rows(rows, picture_bits=PICTURE_BITS, ours=ours[0][0] if ours else "")
    return SimulatedReport(rows=finished, bars=bars, delays=curves)
