"""Measure gaze on drawn scenes that nobody trained on, beside the people who were drawn and their own law.

Flow: stores of training expressions and of a split of data/world/splits.py -> rivals learn, ours are given
    -> table.py's rows -> DrawnReport: the table, what our rows should reach, and how bits fall when words come late.
Source: the bar is the likelihood of the people's own law (world/likelihood.py).
Shapes: N expressions, V people of each, P packs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sa2va.gaze.baselines.base import Rival
from sa2va.gaze.baselines.event_decoder import StoredLook
from sa2va.gaze.evaluation.bars import Bar, judge
from sa2va.gaze.evaluation.cases import Case, read_cases
from sa2va.gaze.evaluation.scores import EVERY_CORE
from sa2va.gaze.evaluation.table import Row, densities_of, finish_rows, measured_row, people_row, rival_row
from sa2va.gaze.evaluation.tally import Measured, pooled_mean
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.likelihood import bits_per_fixation, uniform_log_density
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.simulator.cases import show
from sa2va.gaze.simulator.dataset import Viewing
from sa2va.gaze.simulator.likelihood import Estimate, estimate_bits
from sa2va.gaze.simulator.viewing import look
from sa2va.gaze.timing import SpeechTiming
from sa2va.gaze.training.simulated import Beliefs, draw_viewings
from sa2va.gaze.training.store import Store, StoreConfig, fill, read
from sa2va.gaze.trial import Trial, on_canvas
from sa2va.world.scenes.splits import TRAIN, Split
from sa2va.world.tasks.items import SIDE

PEOPLE = 9
LEARNED = Split(TRAIN, 0)  # what rivals learn from, whatever is scored: people of another seed, as for ours
MINDS, REPEATS = 300, 3  # of the importance sampling; a standard error far below 0.02 bits
SHIFTS = (-150.0, -100.0, -50.0, 0.0, 50.0, 100.0, 150.0)  # ms by which words are told late
PICTURE_BOX = show((0.0, 0.0, float(SIDE), float(SIDE)))  # of every drawn picture on the canvas, px
PICTURE_BITS = math.log2(  # of one who only knows where the bars are: 0.678
    CANVAS[0] * CANVAS[1] / (PICTURE_BOX[2] - PICTURE_BOX[0]) / (PICTURE_BOX[3] - PICTURE_BOX[1])
)
SLOWER = (-100.0, 0.0, 100.0)  # ms that people take longer than those of training


@dataclass(frozen=True)
class HeldOut:
    """Expressions that nobody trained on, and the people who looked."""

    store: Store
    viewings: list[list[Viewing]]  # N times V

    @property
    def trials(self) -> list[Trial]:
        return [on_canvas(viewing.trial) for group in self.viewings for viewing in group]


def prepare(
    folder: Path, split: Split, num_cases: int, num_people: int, grid: Grid, model: ScanpathModel | None
) -> HeldOut:
    """Draw and hear expressions, or read what an earlier call has kept in the folder."""
    config = StoreConfig(seed=split.seed, split=split.name, num_cases=num_cases, num_people=num_people)
    fill(folder, config, grid, model)
    store = read(folder, config, grid, None if model is None else model.sa2va)
    groups = [draw_viewings(split.seed, split.name, index, num_people) for index in range(num_cases)]
    return HeldOut(store, groups)


def law_row(
    held: HeldOut, *, minds: int = MINDS, repeats: int = REPEATS, seed: int = 0, jobs: int = EVERY_CORE
) -> tuple[Row, Estimate]:
    """The law that drew the people, to one who does not know who they are."""
    looks = [(one.case.view, [step.fixation for step in one.steps]) for group in held.viewings for one in group]
    area = float(CANVAS[0] * CANVAS[1])
    found = estimate_bits(looks, count=minds, repeats=repeats, seed=seed, area=area, jobs=jobs)
    sums, counts = (values.reshape(len(held.viewings), -1).sum(1) for values in (found.sums, found.counts))
    names = tuple(group[0].case.name for group in held.viewings)
    measured = Measured(names, names, {"bits": pooled_mean(sums, counts)})
    return measured_row("the people's own law", "people", measured), found


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
    """A trained decoder, with how its durations differ from people's as well."""
    rival, folds = StoredLook(name, decoder, held.store, beliefs), [([], held.trials)]
    return rival_row(lambda: rival, cases, folds, num_samples=num_samples, seed=seed, timed=True, jobs=jobs)


@dataclass(frozen=True)
class DelayCurve:
    """Bits per fixation when words are told late to the model, of people who are slower than those of training."""

    slower: float  # ms
    bits: dict[float, float] = field(default_factory=dict)  # by ms of delay

    @property
    def people(self) -> str:
        """Name the people by their latency."""
        if not self.slower:
            return "people as in training"
        return f"people {abs(self.slower):.0f} ms {'slower' if self.slower > 0 else 'faster'}"

    @property
    def best(self) -> float:
        """The delay at which people are likeliest, ms: the top of a parabola through the highest points."""
        shifts = np.array(sorted(self.bits))
        values = np.array([self.bits[shift] for shift in shifts])
        top = int(np.clip(values.argmax(), 1, len(shifts) - 2))
        square, line, _ = np.polyfit(shifts[top - 1 : top + 2], values[top - 1 : top + 2], 2)
        return float(-line / 2 / square) if square < 0 else float(shifts[values.argmax()])


def delay_curve(rival: Rival, held: HeldOut, num_cases: int, *, slower: float) -> DelayCurve:
    """Let the same scenes be seen by people of another latency, and tell the model the words at other times.

    A model that has learned when a word can move the eye finds people likeliest where the delay makes up for it.
    """
    curve = DelayCurve(slower)
    for shift in SHIFTS:
        logs = []
        for index, group in enumerate(held.viewings[:num_cases]):
            late = []
            for number, viewing in enumerate(group):
                person = replace(viewing.observer, latency=viewing.observer.latency + slower)
                steps = look(viewing.case.view, person, [held.store.config.seed, index, number])
                late.append(_told_late(viewing, [step.fixation for step in steps], shift))
            logs += densities_of(rival, late)
        row = np.concatenate([np.asarray(one) for one in logs])
        curve.bits[shift] = bits_per_fixation(row, uniform_log_density(row.size, *CANVAS))
    return curve


def _told_late(viewing: Viewing, fixations: Sequence[Fixation], shift: float) -> Trial:
    """The look, cut by a clock whose words after the first come later, or earlier, than they did."""
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


Ours = tuple[str, EventDecoder, Beliefs]  # name, decoder, whose beliefs it is told


@dataclass(frozen=True, kw_only=True)
class DrawnReport:
    """All that is printed."""

    rows: list[Row]
    bars: dict[str, list[Bar]]  # by name of the row
    delays: list[DelayCurve]

    @property
    def passed(self) -> bool:
        """Whether the first of our rows, the model that was asked for, reaches its bars."""
        return all(bar.ok for bar in next(iter(self.bars.values()), []))


def evaluate_drawn(
    held: HeldOut,
    ours: Sequence[Ours],
    others: Sequence[Callable[[], Rival]],
    learned: Sequence[Trial],
    *,
    equal: Sequence[Ours] = (),
    num_samples: int = PEOPLE,
    delays: int = 0,
    seed: int = 0,
    jobs: int = EVERY_CORE,
    tell: Callable[[str], None] = lambda _: None,
) -> DrawnReport:
    """Score everything on expressions that nobody trained on.

    Args:
        held: what is scored.
        ours: our rows; the first one is tested against all others.
        others: rivals, which learn from `learned` first.
        learned: trials of training expressions, on the canvas.
        equal: our rows that learned as little as rivals did, and are held to no bar.
        num_samples: scanpaths per expression.
        delays: expressions on which words are told late; 0 = none.
        seed: of samples.
        jobs: processes that score; -1 = one per core.
        tell: is told of each row.
    """
    cases = read_cases(held.trials)
    people = people_row(cases, jobs=jobs)
    law, estimate = law_row(held, jobs=jobs)
    tell(f"the people's own law: {estimate.value:.3f} bits, standard error {estimate.standard_error:.4f}")
    rows, bars = [law, people], {}
    for name, decoder, beliefs in [*ours, *equal]:
        tell(f"scoring {name}")
        made = ours_row(name, decoder, held, cases, beliefs=beliefs, num_samples=num_samples, seed=seed, jobs=jobs)
        rows.append(made)
        if name in [own for own, _, _ in ours]:
            bars[name] = judge(made, people, law)
    for make in others:
        rows.append(rival_row(make, cases, [(learned, held.trials)], num_samples=num_samples, seed=seed, jobs=jobs))
        tell(f"scored {rows[-1].name}")
    curves = []
    if delays and ours:
        name, decoder, beliefs = ours[0]
        rival = StoredLook(name, decoder, held.store, beliefs)
        curves = [delay_curve(rival, held, delays, slower=slower) for slower in SLOWER]
        tell("words told late are scored")
    finished = finish_rows(rows, picture_bits=PICTURE_BITS, ours=ours[0][0] if ours else "")
    return DrawnReport(rows=finished, bars=bars, delays=curves)
