"""Say how likely the people of the drawn world were to look where they did, to one who knows their law but not them.

Flow: View, fixations of one person -> draw_minds (people who might have been this one) -> each weighted by all that
    the person did so far -> log density of each next place. No model of the same picture and words can do better on
    average, so that this is the bar for bits per fixation.
Source: importance sampling from the prior, with what was aimed at drawn from what is known after each fixation. The law
    is that of policy.py and viewing.py, here for many minds at once; a test holds the two together.
Shapes: S minds, M objects, N words, K fixations; xy, px of the canvas of 512 x 320; ms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri
from sklearn.utils.parallel import Parallel, delayed

from sa2va.gaze.scanpath import Fixation
from sa2va.gaze.simulator.cases import LURE
from sa2va.gaze.simulator.observers import POPULATION, Observer
from sa2va.gaze.simulator.policy import (
    CALM,
    CLEAR,
    EAGER,
    EXPLORE_SPREAD,
    LANDING,
    MEMORY,
    RETURN,
    WAIT_SPREAD,
    holds,
)
from sa2va.gaze.simulator.viewing import (
    CENTER_SPREAD,
    DURATIONS,
    DWELL,
    HASTY,
    HASTY_LOG,
    HASTY_LOG_SPREAD,
    LATENCY_SPREAD,
    MIN_LATENCY,
    PATIENCE,
    SETTLED_DOUBT,
    SETTLING,
    View,
)

Array = NDArray[np.float64]
NOTHING = -1  # aimed at no object


@dataclass(frozen=True)
class Minds:
    """S people who may have looked."""

    traits: dict[str, Array]  # (S,) each, by the names of Observer
    saliency: Array  # (S, M)
    arrivals: Array  # (S, N) ms, when each word can change a saccade

    def __len__(self) -> int:
        return len(self.saliency)


def draw_minds(view: View, count: int, rng: np.random.Generator, *, observer: Observer | None = None) -> Minds:
    """Draw minds as the drawn world draws people; what attracts the eye in a picture is drawn as well.

    Args:
        view: whose words and objects count; its saliency is not looked at.
        count: S.
        rng: of chance.
        observer: of whom all are, if that is known.
    """
    traits = {}
    for name, trait in POPULATION.items():
        low, high = ndtr((np.array([trait.low, trait.high]) - trait.mean) / trait.spread)
        traits[name] = trait.mean + trait.spread * ndtri(rng.uniform(low, high, count))
        if observer is not None:
            traits[name] = np.full(count, getattr(observer, name))
    lure = np.exp(rng.normal(0.0, LURE, (count, len(view.boxes))))
    delays = rng.normal(traits["latency"][:, None], LATENCY_SPREAD, (count, len(view.timing.onsets)))
    arrivals = np.array(view.timing.onsets) + np.maximum(delays, MIN_LATENCY)
    return Minds(traits, lure / lure.sum(1, keepdims=True), np.maximum.accumulate(arrivals, axis=1))


def log_predictive(
    view: View,
    fixations: Sequence[Fixation],
    minds: Minds,
    rng: np.random.Generator,
    *,
    aims: Sequence[int | None] | None = None,
) -> Array:
    """Log density of each place given all that happened before it, places, times and going on.

    Args:
        view: what there is to see and hear.
        fixations: K, of one person, on the canvas.
        minds: S drawn ones.
        rng: of what they aim at.
        aims: K objects that were aimed at, if that is known.

    Returns:
        (K,) natural log of the density per px^2.
    """
    crowd = _Crowd(view, minds)
    logs = []
    for number, fixation in enumerate(fixations):
        point = (fixation.x, fixation.y)
        density = crowd.first(point) if number == 0 else crowd.density(point)
        before = crowd.weights - logsumexp(crowd.weights)
        logs.append(float(logsumexp(before + np.log(np.maximum(density, 1e-300)))))
        if number + 1 < len(fixations):
            known = None if aims is None else aims[number]
            crowd.learn(fixation, density, rng, known if aims is not None else _DRAWN, is_first=number == 0)
    return np.array(logs)


_DRAWN = "drawn"  # what is aimed at is not known


@dataclass
class _Crowd:
    """S minds, in step with one person."""

    view: View
    minds: Minds
    weights: Array = field(init=False)  # (S,) logs
    belief: Array = field(init=False)  # (S, M)
    looks: NDArray[np.int64] = field(init=False)  # (S, MEMORY) last aims, the newest last

    def __post_init__(self) -> None:
        count = len(self.minds)
        self.weights, self.belief = np.zeros(count), self.minds.saliency
        self.looks = np.full((count, MEMORY), NOTHING)
        boxes = np.array(self.view.boxes)
        self._centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        self._spreads = LANDING * (boxes[:, 2:] - boxes[:, :2])
        self._inside = np.zeros(len(boxes), bool)  # objects under the last fixation
        self._before: NDArray[np.bool_] | None = None  # and under the one before it
        self._point = np.zeros(2)
        self._parts: tuple[Array, ...] = ()

    def first(self, point: tuple[float, float]) -> Array:
        """Nobody chooses the first place: (S,)."""
        x0, y0, x1, y1 = self.view.bounds
        center = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
        return np.full(len(self.minds), self._normal(np.array(point), center, np.full((1, 2), CENTER_SPREAD))[0])

    def density(self, point: tuple[float, float]) -> Array:
        """Density of the next place of each mind, (S,)."""
        place = np.array(point)
        objects = self._normal(place, self._centers, self._spreads)  # (M,)
        aimed = self._aims * objects  # (S, M)
        still = self._normal(place, self._point[None], np.full((1, 2), WAIT_SPREAD))[0] * self._wait
        away = self._normal(place, self._point[None], np.full((1, 2), EXPLORE_SPREAD))[0] * self._explore
        self._parts = (aimed, still + away)
        return aimed.sum(1) + still + away

    def learn(
        self, fixation: Fixation, density: Array, rng: np.random.Generator, aim: int | str | None, *, is_first: bool
    ) -> None:
        """Weigh the minds by a fixation, its duration and that another one followed, and plan the next one."""
        if not is_first:
            self.weights = self.weights + np.log(np.maximum(density, 1e-300))
            self._remember(rng, aim)
        self._point = np.array([fixation.x, fixation.y])
        self._before, self._inside = (None if is_first else self._inside), self._holding()
        self.weights = self.weights + np.log(np.maximum(self._duration(fixation.duration), 1e-300))
        now = fixation.start + fixation.duration
        heard = (self.minds.arrivals <= now).sum(1)
        over, tired = (now >= self.view.timing.duration + wait for wait in (0.0, PATIENCE))
        self.weights = self.weights + np.log(np.maximum(1 - self._stop(heard, over, tired), 1e-300))
        self.belief = self._believe(heard, settled=now >= self.view.timing.duration + SETTLING)
        self._plan(~self.view.possible[heard].all(1), tired)

    def _holding(self) -> NDArray[np.bool_]:
        return np.array([holds(box, (self._point[0], self._point[1])) for box in self.view.boxes])

    def _remember(self, rng: np.random.Generator, aim: int | str | None) -> None:
        """Draw what each mind aimed at, as far as the place tells."""
        if aim == _DRAWN:
            aimed, nothing = self._parts
            total = np.cumsum(np.concatenate([aimed, nothing[:, None]], axis=1), axis=1)
            goal = rng.random(len(total)) * total[:, -1]
            index = (total <= goal[:, None]).sum(1).clip(max=aimed.shape[1])
            index = np.where(index == aimed.shape[1], NOTHING, index)
        else:
            index = np.full(len(self.minds), NOTHING if aim is None else int(aim))
        new = np.concatenate([self.looks[:, 1:], index[:, None]], axis=1)
        self.looks = np.where((index == NOTHING)[:, None], self.looks, new)

    def _duration(self, duration: float) -> Array:
        here = np.where(self._inside, self.belief, 0.0).max(1)
        traits = self.minds.traits
        usual = _cut_log_normal(duration, traits["log_duration"] + DWELL * here, traits["log_duration_spread"])
        hasty = _cut_log_normal(duration, np.array(HASTY_LOG), np.array(HASTY_LOG_SPREAD))
        return (1 - HASTY) * usual + HASTY * hasty

    def _stop(self, heard: NDArray[np.int64], over: bool, tired: bool) -> Array:
        left = self.view.possible[heard]  # (S, M)
        one, only = left.sum(1) == 1, left.argmax(1)
        there = one & self._inside[only]
        if tired or not over:
            return there * (np.ones(len(heard)) if tired else self.minds.traits["stop_before"])
        stayed = self._inside[only] if self._before is None else self._inside[only] & self._before[only]
        chance = np.where(stayed, self.minds.traits["stop_after"], self.minds.traits["stop_arrival"])
        return there * chance

    def _believe(self, heard: NDArray[np.int64], *, settled: bool) -> Array:
        doubt = self.minds.traits["doubt"]
        if settled:
            doubt = np.where(heard == len(self.view.possible) - 1, doubt * SETTLED_DOUBT, doubt)
        weight = self.minds.saliency * np.where(self.view.possible[heard], 1.0, doubt[:, None])
        return weight / weight.sum(1, keepdims=True)

    def _plan(self, informed: NDArray[np.bool_], tired: bool) -> None:
        """Chances of waiting and exploring, (S,), and of aiming at each object, (S, M)."""
        traits, belief = self.minds.traits, self.belief
        rows, first = np.arange(len(belief)), belief.argmax(1)
        if tired:
            self._wait = self._explore = np.zeros(len(belief))
            self._aims = np.eye(belief.shape[1])[first]
            return
        clear = (belief[rows, first] > CLEAR) & (belief.shape[1] > 1)
        there = clear & self._inside[first]
        wait = np.where(informed, traits["wait_after"], traits["wait_before"])
        wait = np.where(there, traits["wait_there"], wait) * np.where(clear & ~there, EAGER, 1.0)
        explore = (1 - wait) * traits["explore"] * np.where(clear, CALM, 1.0)
        verify = (1 - wait - explore) * traits["verify"] * clear
        far = np.hypot(*(self._centers - self._point).T)
        pull = belief ** traits["sharpness"][:, None] * np.exp(-far / traits["reach"][:, None])
        surely = belief[rows, first] > CLEAR
        for look in self.looks.T:
            tires = (look != NOTHING) & ~(surely & (look == first))
            pull[rows[tires], look[tires]] *= RETURN
        pull /= pull.sum(1, keepdims=True)
        self._wait, self._explore = wait, explore
        self._aims = (1 - wait - explore - verify)[:, None] * pull
        if belief.shape[1] > 1:
            second = np.argsort(-belief, axis=1, kind="stable")[:, 1]
            self._aims[rows, np.where(there, second, first)] += verify

    def _normal(self, point: Array, centers: Array, spreads: Array) -> Array:
        """Density of normal laws (G, 2), cut off at the edge of the picture, at a point: (G,)."""
        bounds = np.array(self.view.bounds)
        mass = (ndtr((bounds[2:] - centers) / spreads) - ndtr((bounds[:2] - centers) / spreads)).prod(1)
        z = (point - centers) / spreads
        return np.exp(-(z**2).sum(1) / 2) / (2 * math.pi * spreads.prod(1) * mass)


def _cut_log_normal(duration: float, mean: Array, spread: Array) -> Array:
    """Density per ms of a log-normal law that is drawn again beyond DURATIONS."""
    low, high = (ndtr((math.log(limit) - mean) / spread) for limit in DURATIONS)
    z = (math.log(duration) - mean) / spread
    return np.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * spread * duration) / (high - low)


@dataclass(frozen=True)
class Estimate:
    """A mean log density with the error of its estimation, and what each look adds to it."""

    value: float
    standard_error: float
    sums: Array  # bits of all fixations of each look, mean of the estimates
    counts: Array  # fixations of each look


def estimate_bits(
    looks: Sequence[tuple[View, Sequence[Fixation]]],
    *,
    count: int,
    repeats: int,
    seed: int,
    area: float,
    jobs: int = 1,
) -> Estimate:
    """Bits per fixation of people's own law above an even density, all fixations pooled.

    Args:
        looks: what each person saw and did.
        count: S minds of one estimate.
        repeats: independent estimates, which give the error.
        seed: of chance.
        area: px^2 of the even density.
        jobs: processes; -1 = one per core.
    """
    tasks = [
        delayed(_look_bits)(view, fixations, count, [[seed, repeat, number] for repeat in range(repeats)], area)
        for number, (view, fixations) in enumerate(looks)
    ]
    sums = np.array(Parallel(n_jobs=jobs, batch_size=50, backend="loky")(tasks))  # (looks, repeats)
    counts = np.array([len(fixations) for _, fixations in looks], float)
    means = sums.sum(0) / counts.sum()
    error = float(np.std(means, ddof=1) / math.sqrt(repeats)) if repeats > 1 else math.nan
    return Estimate(float(means.mean()), error, sums.mean(1), counts)


def _look_bits(
    view: View, fixations: Sequence[Fixation], count: int, seeds: Sequence[Sequence[int]], area: float
) -> list[float]:
    """Bits of all fixations of one look, an estimate per seed."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        logs = log_predictive(view, fixations, draw_minds(view, count, rng), rng)
        found.append(float((logs + math.log(area)).sum() / math.log(2)))
    return found
