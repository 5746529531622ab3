"""Saccade policy of the simulator: a mixture of waiting, exploring, scanning and verifying.

Flow: PlanningState -> propose -> Goals with their probabilities -> draw_point, or log_density of a point: the exact
    generating density, an upper bound for any model on average.
Source: waiting, scanning and verification follow RefCOCO-Gaze, arXiv:2407.19605; the mixture is our own.
Shapes: M objects of a scene, G goals; xy, px of the canvas of 512 x 320.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.metrics.target import Box
from sa2va.gaze.simulator.observers import Observer

WAIT, EXPLORE, SCAN, VERIFY = "wait", "explore", "scan", "verify"

WAIT_SPREAD = 23.0  # px, SD of a waiting step
EXPLORE_SPREAD = 59.0  # px, SD of an exploring step
AIM_SPREAD = 0.2  # SD of the end point around an object's center, in widths and heights of its box
CLEAR = 0.5  # belief above which one object is the clear candidate
INHIBITION = 0.93  # inhibition of return: factor on the attraction of recently fixated objects
INHIBITION_SPAN = 2  # number of recent saccade goals that it applies to
CLEAR_EXPLORE = 0.2  # factor on exploring with a clear candidate
CLEAR_WAIT = 0.23  # factor on waiting while not on the clear candidate


@dataclass(frozen=True)
class Goal:
    """One component of the next fixation's density: a Gaussian truncated to the image."""

    kind: str
    chance: float  # mixture weight
    x: float  # px
    y: float
    spread_x: float  # px, SD
    spread_y: float
    aim: int | None = None  # index of the object in the scene

    def mass_inside(self, bounds: Box) -> float:
        """Return the Gaussian's mass inside the image."""
        x0, y0, x1, y1 = bounds
        across = _cumulative((x1 - self.x) / self.spread_x) - _cumulative((x0 - self.x) / self.spread_x)
        return across * (_cumulative((y1 - self.y) / self.spread_y) - _cumulative((y0 - self.y) / self.spread_y))


@dataclass(frozen=True, kw_only=True)
class PlanningState:
    """An observer's state when a saccade is planned."""

    point: tuple[float, float]  # current fixation, px
    belief: NDArray[np.float64]  # (M,), sums to 1
    informed: bool  # a word has ruled out an object
    past_aims: Sequence[int] = ()  # objects aimed at so far


def holds(box: Box, point: tuple[float, float]) -> bool:
    """Tell whether a point lies in a box, edges included."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def propose(state: PlanningState, boxes: Sequence[Box], observer: Observer) -> list[Goal]:
    """List the components of the next fixation's density.

    Args:
        state: State of the observer.
        boxes: M boxes of the objects, px.
        observer: Traits of the observer.
    """
    first = int(state.belief.argmax())
    is_clear = bool(state.belief[first] > CLEAR) and len(boxes) > 1
    there = is_clear and holds(boxes[first], state.point)
    wait = observer.wait_there if there else observer.wait_after if state.informed else observer.wait_before
    wait *= CLEAR_WAIT if is_clear and not there else 1.0
    explore = (1 - wait) * observer.explore * (CLEAR_EXPLORE if is_clear else 1.0)
    verify = (1 - wait - explore) * observer.verify * is_clear
    goals = [
        Goal(WAIT, wait, *state.point, WAIT_SPREAD, WAIT_SPREAD),
        Goal(EXPLORE, explore, *state.point, EXPLORE_SPREAD, EXPLORE_SPREAD),
    ]
    if is_clear:
        second = int(np.argsort(-state.belief, kind="stable")[1])
        goals.append(aim_at(second if there else first, boxes, VERIFY, verify))
    pull = attraction(state, boxes, observer)
    scan = 1 - wait - explore - verify
    return goals + [aim_at(index, boxes, SCAN, scan * float(share)) for index, share in enumerate(pull)]


def attraction(state: PlanningState, boxes: Sequence[Box], observer: Observer) -> NDArray[np.float64]:
    """Compute each object's share of the scanning saccades, (M,), from belief, distance and inhibition of return."""
    centers = np.array([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes])
    away = np.hypot(*(centers - state.point).T)
    pull = state.belief**observer.sharpness * np.exp(-away / observer.reach)
    first = int(state.belief.argmax())
    for index in state.past_aims[-INHIBITION_SPAN:]:
        if not (state.belief[first] > CLEAR and index == first):
            pull[index] *= INHIBITION
    return pull / pull.sum()


def aim_at(index: int, boxes: Sequence[Box], kind: str = SCAN, chance: float = 1.0) -> Goal:
    """Build the goal at an object's center."""
    x0, y0, x1, y1 = boxes[index]
    return Goal(kind, chance, (x0 + x1) / 2, (y0 + y1) / 2, AIM_SPREAD * (x1 - x0), AIM_SPREAD * (y1 - y0), index)


def choose(goals: Sequence[Goal], rng: np.random.Generator) -> Goal:
    """Sample a goal by its weight."""
    chances = np.cumsum([goal.chance for goal in goals])
    return goals[int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))]


def draw_point(goal: Goal, bounds: Box, rng: np.random.Generator) -> tuple[float, float]:
    """Sample an end point; points outside the image are rejected."""
    while True:
        x, y = rng.normal((goal.x, goal.y), (goal.spread_x, goal.spread_y))
        if holds(bounds, (x, y)):
            return float(x), float(y)


def log_density(goals: Sequence[Goal], point: tuple[float, float], bounds: Box) -> float:
    """Compute the natural log density of the next fixation at a point of the image, per px^2 of the canvas."""
    total = 0.0
    for goal in goals:
        u, v = (point[0] - goal.x) / goal.spread_x, (point[1] - goal.y) / goal.spread_y
        peak = 2 * math.pi * goal.spread_x * goal.spread_y * goal.mass_inside(bounds)
        total += goal.chance * math.exp(-(u * u + v * v) / 2) / peak
    return math.log(total) if total > 0 else -math.inf


def _cumulative(z: float) -> float:
    """Standard normal distribution function."""
    return (1 + math.erf(z / math.sqrt(2))) / 2
