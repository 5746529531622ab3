"""Simulate the scanpath of one observer over one scene while an expression is spoken.

Flow: Stimulus, Observer -> simulate_scanpath -> Steps: fixations with the state that generated them. The simulation is
    causal: a word influences no saccade before its onset plus the latency, and an observer stops only once the words
    heard so far identify the target.
Shapes: M objects, N words, K fixations; xy, px of the canvas of 512 x 320; ms from the beginning of the sound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Fixation
from sa2va.gaze.simulator.observers import Observer
from sa2va.gaze.simulator.policy import Goal, PlanningState, aim_at, choose, draw_point, holds, log_density, propose
from sa2va.gaze.timing import SpeechTiming

START = "start"  # kind of the first fixation, which follows no saccade

LATENCY_SPREAD = 45.0  # ms, SD of the latency between words
MIN_LATENCY = 60.0  # ms
FIRST_FIXATION = (-157.0, 12.0)  # ms, mean and SD of its onset; the image appears about 205 ms before the sound
CENTER_SPREAD = 10.0  # px, SD of its position around the center
GAP_LOG, GAP_LOG_SPREAD = math.log(42.0), 0.52  # of ln(ms) between two fixations
BLINK, BLINK_LOG, BLINK_LOG_SPREAD = 0.06, math.log(220.0), 0.3  # share of gaps with a blink; their ln(ms)
BELIEF_DWELL = 0.13  # increase of ln(duration) on an object of belief 1
CORRECTIVE = 0.06  # share of short, corrective fixations
CORRECTIVE_LOG, CORRECTIVE_LOG_SPREAD = math.log(60.0), 0.5  # of their ln(ms)
PRESS_LOG, PRESS_LOG_SPREAD = math.log(280.0), 1.05  # of ln(ms) of the last fixation, cut off by the button press
DURATIONS = (20.0, 2500.0)  # ms, limits of a fixation
SETTLING = 330.0  # ms after the speech, when the doubt drops
SETTLED_DOUBT = 0.2  # factor on the doubt from then on
TIMEOUT = 4500.0  # ms after the speech, when the observer goes to the target and stops


@dataclass(frozen=True, kw_only=True, eq=False)
class Stimulus:
    """The scene and speech that an observer perceives."""

    boxes: tuple[Box, ...]  # (M,) of the objects, px
    bounds: Box  # of the image, px
    saliency: NDArray[np.float64]  # (M,) attraction before the first word, sums to 1
    possible: NDArray[np.bool_]  # (N + 1, M) objects still possible after 0..N words
    timing: SpeechTiming


@dataclass(frozen=True, kw_only=True)
class Step:
    """A fixation with the plan behind it."""

    fixation: Fixation  # px of the canvas
    kind: str  # START, or a kind of policy.py
    aim: int | None  # object aimed at
    heard: int  # number of words that could influence it
    belief: tuple[float, ...]  # (M,) when it was planned
    log_density: float  # natural log of its density when it was planned, per px^2 of the canvas


def simulate_scanpath(stimulus: Stimulus, observer: Observer, seed: Sequence[int]) -> list[Step]:
    """Simulate a scanpath until the target is found.

    Args:
        stimulus: Scene and speech.
        observer: Traits of the observer.
        seed: Random seed. Latencies and saccades have separate random streams, so that a change of later words
            leaves everything before them unchanged.

    Returns:
        K >= 1 steps; the last one is on the target.
    """
    arrivals = _draw_arrivals(stimulus.timing, observer, np.random.default_rng([*seed, 0]))
    rng = np.random.default_rng([*seed, 1])
    goal = _begin(stimulus.bounds)
    belief, heard = stimulus.saliency, 0
    point, density = draw_point(goal, stimulus.bounds, rng), math.nan
    start = float(rng.normal(*FIRST_FIXATION))
    steps: list[Step] = []
    past_aims: list[int] = []
    while True:
        duration = _draw_duration(stimulus, observer, point, belief, rng)
        steps.append(
            Step(
                fixation=Fixation(*point, start, duration), kind=goal.kind, aim=goal.aim, heard=heard,
                belief=tuple(belief.tolist()), log_density=density,
            )
        )  # fmt: skip
        now = start + duration
        heard = int(np.searchsorted(arrivals, now, side="right"))
        over, timed_out = (now >= stimulus.timing.duration + wait for wait in (0.0, TIMEOUT))
        if rng.random() < _stop_chance(stimulus, observer, steps, heard, over, timed_out):
            pressed = _draw_within(PRESS_LOG, PRESS_LOG_SPREAD, rng)
            return [*steps[:-1], replace(steps[-1], fixation=replace(steps[-1].fixation, duration=pressed))]
        belief = believe(stimulus, observer, heard, settled=now >= stimulus.timing.duration + SETTLING)
        informed = not stimulus.possible[heard].all()
        state = PlanningState(point=point, belief=belief, informed=informed, past_aims=past_aims)
        goals = (
            [aim_at(int(belief.argmax()), stimulus.boxes)] if timed_out else propose(state, stimulus.boxes, observer)
        )
        goal = choose(goals, rng)
        point = draw_point(goal, stimulus.bounds, rng)
        density = log_density(goals, point, stimulus.bounds)
        if goal.aim is not None:
            past_aims.append(goal.aim)
        start = now + _draw_gap(rng)


def believe(stimulus: Stimulus, observer: Observer, heard: int, *, settled: bool) -> NDArray[np.float64]:
    """Compute the belief over objects after the first `heard` words, (M,), sums to 1."""
    doubt = observer.doubt * (SETTLED_DOUBT if settled and heard == len(stimulus.possible) - 1 else 1.0)
    weight = stimulus.saliency * np.where(stimulus.possible[heard], 1.0, doubt)
    return weight / weight.sum()


def _begin(bounds: Box) -> Goal:
    x0, y0, x1, y1 = bounds
    return Goal(START, 1.0, (x0 + x1) / 2, (y0 + y1) / 2, CENTER_SPREAD, CENTER_SPREAD)


def _draw_arrivals(timing: SpeechTiming, observer: Observer, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sample the time from which each word can influence a saccade, (N,) ms, non-decreasing."""
    delays = [max(MIN_LATENCY, float(rng.normal(observer.latency, LATENCY_SPREAD))) for _ in timing.onsets]
    return np.maximum.accumulate(np.array(timing.onsets) + delays)


def _draw_duration(
    stimulus: Stimulus,
    observer: Observer,
    point: tuple[float, float],
    belief: NDArray[np.float64],
    rng: np.random.Generator,
) -> float:
    here = [float(share) for box, share in zip(stimulus.boxes, belief, strict=True) if holds(box, point)]
    mean, spread = observer.log_duration + BELIEF_DWELL * max(here, default=0.0), observer.log_duration_spread
    if rng.random() < CORRECTIVE:
        mean, spread = CORRECTIVE_LOG, CORRECTIVE_LOG_SPREAD
    return _draw_within(mean, spread, rng)


def _draw_within(mean: float, spread: float, rng: np.random.Generator) -> float:
    """Sample a log-normal duration within DURATIONS by rejection, ms."""
    while True:
        duration = math.exp(rng.normal(mean, spread))
        if DURATIONS[0] <= duration <= DURATIONS[1]:
            return duration


def _draw_gap(rng: np.random.Generator) -> float:
    blinks = rng.random() < BLINK
    return math.exp(rng.normal(*((BLINK_LOG, BLINK_LOG_SPREAD) if blinks else (GAP_LOG, GAP_LOG_SPREAD))))


def _stop_chance(
    stimulus: Stimulus, observer: Observer, steps: Sequence[Step], heard: int, over: bool, timed_out: bool
) -> float:
    """Compute the probability of stopping after the last step: 0 unless it is on the only possible object."""
    left = np.flatnonzero(stimulus.possible[heard])
    stays = [holds(stimulus.boxes[int(left[0])], (step.fixation.x, step.fixation.y)) for step in steps[-2:]]
    if len(left) > 1 or not stays[-1]:
        return 0.0
    if timed_out or not over:
        return 1.0 if timed_out else observer.stop_before
    return observer.stop_after if all(stays) else observer.stop_arrival
