"""Let one person look at one drawn scene while an expression is spoken.

Flow: View (what is to be seen and heard), Observer -> look -> Steps: fixations with the mind that made them.
    Nothing depends on the future: a word changes no saccade before its onset plus the latency, and who stops has
    heard enough to know the target.
Shapes: M objects, N words, K fixations; xy, px of the canvas of 512 x 320; ms, 0 is where the sound begins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Fixation
from sa2va.gaze.simulator.observers import Observer
from sa2va.gaze.simulator.policy import Goal, Mind, aim_at, choose, draw_point, holds, log_density, propose
from sa2va.gaze.timing import SpeechTiming

START = "start"  # kind of the first fixation: nobody chose it

LATENCY_SPREAD = 45.0  # ms, SD of the latency from word to word
MIN_LATENCY = 60.0  # ms
FIRST_FIXATION = (-157.0, 12.0)  # ms, mean and SD of its start; the picture appears about 205 ms before the sound
CENTER_SPREAD = 10.0  # px, SD of its place around the middle
GAP_LOG, GAP_LOG_SPREAD = math.log(42.0), 0.52  # ln of ms between two fixations
BLINK, BLINK_LOG, BLINK_LOG_SPREAD = 0.06, math.log(220.0), 0.3  # share of gaps with a blink; ln of their ms
DWELL = 0.13  # by so much ln(duration) is longer on an object that is surely meant
HASTY, HASTY_LOG, HASTY_LOG_SPREAD = 0.06, math.log(60.0), 0.5  # share of fixations that only correct; ln of their ms
PRESS_LOG, PRESS_LOG_SPREAD = math.log(280.0), 1.05  # ln of ms of the last fixation, which a button cuts off
DURATIONS = (20.0, 2500.0)  # ms
SETTLING = 330.0  # ms after the speech, when doubt gives way
SETTLED_DOUBT = 0.2  # what is left of it then
PATIENCE = 4500.0  # ms after the speech, when one goes to the target and stops


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What there is to see and hear."""

    boxes: tuple[Box, ...]  # (M,) of the objects, px
    bounds: Box  # of the picture, px
    saliency: NDArray[np.float64]  # (M,) attraction before a word is heard, sums to 1
    possible: NDArray[np.bool_]  # (N + 1, M) objects that the first 0..N words leave possible
    timing: SpeechTiming


@dataclass(frozen=True, kw_only=True)
class Step:
    """A fixation and why it went there."""

    fixation: Fixation  # px of the canvas
    kind: str  # START, or what policy.py lists
    aim: int | None  # object aimed at
    heard: int  # words that could change it
    belief: tuple[float, ...]  # (M,) when it was planned
    log_density: float  # natural log of the density of its place when it was planned, per px^2 of the canvas


def look(view: View, observer: Observer, seed: Sequence[int]) -> list[Step]:
    """Look until the target is found.

    Args:
        view: what there is to see and hear.
        observer: the person.
        seed: of this look; latencies and eyes have a stream of chance each, so that other words to come leave
            everything before them as it is.

    Returns:
        K >= 1 steps; the last one is on the target.
    """
    arrivals = _draw_arrivals(view.timing, observer, np.random.default_rng([*seed, 0]))
    rng = np.random.default_rng([*seed, 1])
    goal = _begin(view.bounds)
    belief, heard = view.saliency, 0
    point, density = draw_point(goal, view.bounds, rng), math.nan
    start = float(rng.normal(*FIRST_FIXATION))
    steps: list[Step] = []
    looks: list[int] = []
    while True:
        duration = _draw_duration(view, observer, point, belief, rng)
        steps.append(
            Step(
                fixation=Fixation(*point, start, duration), kind=goal.kind, aim=goal.aim, heard=heard,
                belief=tuple(belief.tolist()), log_density=density,
            )
        )  # fmt: skip
        now = start + duration
        heard = int(np.searchsorted(arrivals, now, side="right"))
        over, tired = (now >= view.timing.duration + wait for wait in (0.0, PATIENCE))
        if rng.random() < _stop_chance(view, observer, steps, heard, over, tired):
            pressed = _draw_within(PRESS_LOG, PRESS_LOG_SPREAD, rng)
            return [*steps[:-1], replace(steps[-1], fixation=replace(steps[-1].fixation, duration=pressed))]
        belief = believe(view, observer, heard, settled=now >= view.timing.duration + SETTLING)
        informed = not view.possible[heard].all()
        mind = Mind(point=point, belief=belief, informed=informed, looks=looks)
        goals = [aim_at(int(belief.argmax()), view.boxes)] if tired else propose(mind, view.boxes, observer)
        goal = choose(goals, rng)
        point = draw_point(goal, view.bounds, rng)
        density = log_density(goals, point, view.bounds)
        if goal.aim is not None:
            looks.append(goal.aim)
        start = now + _draw_gap(rng)


def believe(view: View, observer: Observer, heard: int, *, settled: bool) -> NDArray[np.float64]:
    """Return how much a person believes in each object, (M,), after the first words; sums to 1."""
    doubt = observer.doubt * (SETTLED_DOUBT if settled and heard == len(view.possible) - 1 else 1.0)
    weight = view.saliency * np.where(view.possible[heard], 1.0, doubt)
    return weight / weight.sum()


def _begin(bounds: Box) -> Goal:
    x0, y0, x1, y1 = bounds
    return Goal(START, 1.0, (x0 + x1) / 2, (y0 + y1) / 2, CENTER_SPREAD, CENTER_SPREAD)


def _draw_arrivals(timing: SpeechTiming, observer: Observer, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw when each word can change a saccade, (N,) ms; a word never overtakes the one before it."""
    delays = [max(MIN_LATENCY, float(rng.normal(observer.latency, LATENCY_SPREAD))) for _ in timing.onsets]
    return np.maximum.accumulate(np.array(timing.onsets) + delays)


def _draw_duration(
    view: View, observer: Observer, point: tuple[float, float], belief: NDArray[np.float64], rng: np.random.Generator
) -> float:
    here = [float(share) for box, share in zip(view.boxes, belief, strict=True) if holds(box, point)]
    mean, spread = observer.log_duration + DWELL * max(here, default=0.0), observer.log_duration_spread
    if rng.random() < HASTY:
        mean, spread = HASTY_LOG, HASTY_LOG_SPREAD
    return _draw_within(mean, spread, rng)


def _draw_within(mean: float, spread: float, rng: np.random.Generator) -> float:
    """Draw ms from a log-normal law until they are a fixation's."""
    while True:
        duration = math.exp(rng.normal(mean, spread))
        if DURATIONS[0] <= duration <= DURATIONS[1]:
            return duration


def _draw_gap(rng: np.random.Generator) -> float:
    blinks = rng.random() < BLINK
    return math.exp(rng.normal(*((BLINK_LOG, BLINK_LOG_SPREAD) if blinks else (GAP_LOG, GAP_LOG_SPREAD))))


def _stop_chance(view: View, observer: Observer, steps: Sequence[Step], heard: int, over: bool, tired: bool) -> float:
    """Return the chance that a person is done after the last step: on the one object that is left."""
    left = np.flatnonzero(view.possible[heard])
    stays = [holds(view.boxes[int(left[0])], (step.fixation.x, step.fixation.y)) for step in steps[-2:]]
    if len(left) > 1 or not stays[-1]:
        return 0.0
    if tired or not over:
        return 1.0 if tired else observer.stop_before
    return observer.stop_after if all(stays) else observer.stop_arrival
