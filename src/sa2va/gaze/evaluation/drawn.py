"""Measure gaze on drawn scenes that nobody trained on, beside the people who were drawn and their own law.

Flow: stores of training and held-out expressions -> rivals learn, ours are given -> table.py's rows -> DrawnReport:
    the table, what our rows should reach, and how bits fall when words come late.
Source: the bar is the likelihood of the people's own law (world/likelihood.py).
Shapes: N expressions, V people of each, P packs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sa2va.gaze.datasets.world import Viewing
from sa2va.gaze.evaluation.scores import Case, read_cases
from sa2va.gaze.evaluation.table import Row, densities_of, finish_rows, people_row, rival_row
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.likelihood import bits_per_fixation, uniform_log_density
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.rivals.base import Rival
from sa2va.gaze.rivals.ours import StoredLook
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.timing import SpeechTiming
from sa2va.gaze.training.drawn import Beliefs, draw_viewings
from sa2va.gaze.training.store import Store, StoreConfig, fill, read
from sa2va.gaze.trial import Trial, on_canvas
from sa2va.gaze.world.likelihood import Estimate, estimate_bits
from sa2va.gaze.world.viewing import look

SPLIT, PEOPLE = "held-out", 9
MINDS, REPEATS = 300, 3  # of the importance sampling; a standard error far below 0.02 bits
SHIFTS = (-150.0, -100.0, -50.0, 0.0, 50.0, 100.0, 150.0)  # ms by which words are told late
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
    folder: Path,
    num_cases: int,
    num_people: int,
    grid: Grid,
    model: ScanpathModel | None,
    *,
    seed: int = 0,
    split: str = SPLIT,
) -> HeldOut:
    """Draw and hear expressions, or read what an earlier call has kept in the folder."""
    config = StoreConfig(seed=seed, split=split, num_cases=num_cases, num_people=num_people)
    fill(folder, config, grid, model)
    store = read(folder, config, grid, None if model is None else model.sa2va)
    groups = [draw_viewings(seed, split, index, num_people) for index in range(num_cases)]
    return HeldOut(store, groups)


def law_row(held: HeldOut, *, minds: int = MINDS, repeats: int = REPEATS, seed: int = 0) -> tuple[Row, Estimate]:
    """The law that drew the people, to one who does not know who they are."""
    looks = [(one.case.view, [step.fixation for step in one.steps]) for group in held.viewings for one in group]
    found = estimate_bits(looks, count=minds, repeats=repeats, seed=seed, area=float(CANVAS[0] * CANVAS[1]))
    figures = {"bits": found.value, "bits SE": found.standard_error}
    return Row(name="the people's own law", kind="people", num_cases=len(held.viewings), figures=figures), found


def ours_row(
    name: str,
    decoder: EventDecoder,
    held: HeldOut,
    cases: Sequence[Case],
    *,
    beliefs: Beliefs,
    num_samples: int,
    seed: int,
) -> Row:
    """A trained decoder, with how its durations differ from people's as well."""
    rival = StoredLook(name, decoder, held.store, beliefs)
    return rival_row(lambda: rival, cases, [([], held.trials)], num_samples=num_samples, seed=seed, timed=True)


@dataclass(frozen=True)
class DelayCurve:
    """Bits per fixation when words are told late to the model, of people who are slower than those of training."""

    slower: float  # ms
    bits: dict[float, float] = field(default_factory=dict)  # by ms of delay

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


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a row should reach."""

    name: str
    value: float
    wanted: str
    ok: bool


def judge(row: Row, people: Row, law: Estimate) -> list[Bar]:
    """Hold a row against people and their law."""
    ours, theirs = row.figures, people.figures

    def near(name: str, gap: float, limit: float) -> Bar:
        return Bar(name=name, value=gap, wanted=f"<= {limit:g}", ok=bool(abs(gap) <= limit))

    hit = ours["last hit"]
    return [
        near("bits below the people's own law", law.value - ours["bits"], 0.3),
        Bar(name="last fixation on the target", value=hit, wanted=">= 0.95", ok=hit >= 0.95),
        near("empty packs, difference", ours["empty packs"] - theirs["empty packs"], 0.03),
        near("sizes of packs, largest difference", ours["size gap"], 0.03),
        near("hit curve, mean difference", ours["hit curve gap"], 0.05),
        near("SS among samples, less that among people", ours["self SS"] - theirs["self SS"], 0.02),
    ]


@dataclass(frozen=True, kw_only=True)
class DrawnReport:
    """All that is printed."""

    rows: list[Row]
    bars: dict[str, list[Bar]]  # by name of the row
    delays: list[DelayCurve]


def evaluate_drawn(
    held: HeldOut,
    ours: Sequence[tuple[str, EventDecoder, Beliefs]],
    others: Sequence[Callable[[], Rival]],
    learned: Sequence[Trial],
    *,
    num_samples: int = PEOPLE,
    delays: int = 0,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> DrawnReport:
    """Score everything on held-out expressions.

    Args:
        held: what is scored.
        ours: name, decoder and beliefs of each of our rows.
        others: rivals, which learn from `learned` first.
        learned: trials of training expressions, on the canvas.
        num_samples: scanpaths per expression.
        delays: expressions on which words are told late; 0 = none.
        seed: of samples.
        tell: is told of each row.
    """
    cases = read_cases(held.trials)
    people = people_row(cases)
    row, law = law_row(held)
    tell(f"the people's own law: {law.value:.3f} bits, standard error {law.standard_error:.4f}")
    rows, bars = [row, people], {}
    for name, decoder, beliefs in ours:
        rows.append(ours_row(name, decoder, held, cases, beliefs=beliefs, num_samples=num_samples, seed=seed))
        bars[name] = judge(rows[-1], people, law)
        tell(f"{name}: {rows[-1].figures['bits']:.3f} bits")
    for make in others:
        rows.append(rival_row(make, cases, [(learned, held.trials)], num_samples=num_samples, seed=seed))
        tell(f"{rows[-1].name}: {rows[-1].figures.get('bits', math.nan):.3f} bits")
    curves = []
    if delays and ours:
        name, decoder, beliefs = ours[0]
        rival = StoredLook(name, decoder, held.store, beliefs)
        curves = [delay_curve(rival, held, delays, slower=slower) for slower in SLOWER]
    return DrawnReport(rows=finish_rows(rows), bars=bars, delays=curves)
