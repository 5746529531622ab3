"""Decide where one person looks next: stay, explore, go to an object, or check another one.

Flow: belief and place of the eye -> propose -> Goals with their chances -> draw_point, or log_density of a point:
    the exact density of what was drawn, which no model can beat on average.
Source: waiting, scanning and verification as described for RefCOCO-Gaze, arXiv:2407.19605; the law is our own.
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

WAIT_SPREAD = 23.0  # px, SD of a step that stays
EXPLORE_SPREAD = 59.0  # px, SD of a step that goes nowhere in particular
LANDING = 0.2  # SD around the middle of an object, in widths and heights of its box
CLEAR = 0.5  # belief from which one object stands out
RETURN = 0.93  # what an object keeps of its attraction right after a look at it
MEMORY = 2  # looks for which that holds
CALM = 0.2  # what remains of exploring once one object stands out
EAGER = 0.23  # what then remains of waiting elsewhere


@dataclass(frozen=True)
class Goal:
    """One place where the next fixation may go: a normal distribution cut off at the edge of the picture."""

    kind: str
    chance: float  # of all goals they sum to 1
    x: float  # px
    y: float
    spread_x: float  # px, SD
    spread_y: float
    aim: int | None = None  # position of the object in the scene

    def mass_inside(self, bounds: Box) -> float:
        """Return the share of the distribution that lies in the picture."""
        x0, y0, x1, y1 = bounds
        across = _cumulative((x1 - self.x) / self.spread_x) - _cumulative((x0 - self.x) / self.spread_x)
        return across * (_cumulative((y1 - self.y) / self.spread_y) - _cumulative((y0 - self.y) / self.spread_y))


@dataclass(frozen=True, kw_only=True)
class Mind:
    """What a person knows at the moment a saccade is planned."""

    point: tuple[float, float]  # where the eye is, px
    belief: NDArray[np.float64]  # (M,), sums to 1
    informed: bool  # a word has ruled out something
    looks: Sequence[int] = ()  # objects aimed at so far


def holds(box: Box, point: tuple[float, float]) -> bool:
    """Tell whether a point lies in a box, its edge included."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def propose(mind: Mind, boxes: Sequence[Box], observer: Observer) -> list[Goal]:
    """List where the next fixation may go, with the chance of each.

    Args:
        mind: of the person.
        boxes: M, of the objects, px.
        observer: the person.
    """
    first = int(mind.belief.argmax())
    stands_out = bool(mind.belief[first] > CLEAR) and len(boxes) > 1
    there = stands_out and holds(boxes[first], mind.point)
    wait = observer.wait_there if there else observer.wait_after if mind.informed else observer.wait_before
    wait *= EAGER if stands_out and not there else 1.0
    explore = (1 - wait) * observer.explore * (CALM if stands_out else 1.0)
    verify = (1 - wait - explore) * observer.verify * stands_out
    goals = [
        Goal(WAIT, wait, *mind.point, WAIT_SPREAD, WAIT_SPREAD),
        Goal(EXPLORE, explore, *mind.point, EXPLORE_SPREAD, EXPLORE_SPREAD),
    ]
    if stands_out:
        second = int(np.argsort(-mind.belief, kind="stable")[1])
        goals.append(aim_at(second if there else first, boxes, VERIFY, verify))
    pull = attraction(mind, boxes, observer)
    scan = 1 - wait - explore - verify
    return goals + [aim_at(index, boxes, SCAN, scan * float(share)) for index, share in enumerate(pull)]


def attraction(mind: Mind, boxes: Sequence[Box], observer: Observer) -> NDArray[np.float64]:
    """Share of each object among the saccades that scan, (M,): believed in, near, and not just looked at."""
    centers = np.array([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes])
    away = np.hypot(*(centers - mind.point).T)
    pull = mind.belief**observer.sharpness * np.exp(-away / observer.reach)
    first = int(mind.belief.argmax())
    for index in mind.looks[-MEMORY:]:
        if not (mind.belief[first] > CLEAR and index == first):
            pull[index] *= RETURN
    return pull / pull.sum()


def aim_at(index: int, boxes: Sequence[Box], kind: str = SCAN, chance: float = 1.0) -> Goal:
    """Aim at the middle of an object."""
    x0, y0, x1, y1 = boxes[index]
    return Goal(kind, chance, (x0 + x1) / 2, (y0 + y1) / 2, LANDING * (x1 - x0), LANDING * (y1 - y0), index)


def choose(goals: Sequence[Goal], rng: np.random.Generator) -> Goal:
    """Choose one goal by its chance."""
    chances = np.cumsum([goal.chance for goal in goals])
    return goals[int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))]


def draw_point(goal: Goal, bounds: Box, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point of a goal; one beyond the picture is drawn again, never moved to the edge."""
    while True:
        x, y = rng.normal((goal.x, goal.y), (goal.spread_x, goal.spread_y))
        if holds(bounds, (x, y)):
            return float(x), float(y)


def log_density(goals: Sequence[Goal], point: tuple[float, float], bounds: Box) -> float:
    """Natural log of the density of the next fixation at a point of the picture, per px^2 of the canvas."""
    total = 0.0
    for goal in goals:
        u, v = (point[0] - goal.x) / goal.spread_x, (point[1] - goal.y) / goal.spread_y
        peak = 2 * math.pi * goal.spread_x * goal.spread_y * goal.mass_inside(bounds)
        total += goal.chance * math.exp(-(u * u + v * v) / 2) / peak
    return math.log(total) if total > 0 else -math.inf


def _cumulative(z: float) -> float:
    """Cumulative normal distribution."""
    return (1 + math.erf(z / math.sqrt(2))) / 2
