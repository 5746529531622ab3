"""Estimate the log-likelihood of simulated scanpaths, marginalized over the observer's hidden traits.

Flow: Stimulus, fixations of one observer -> draw_particles (traits, saliency, latencies from the prior) -> weighted by
    the observer's behavior so far -> log density of each next fixation. This oracle likelihood is an upper bound on
    the average of any model that sees the same image and words: the bar for bits per fixation.
Source: importance sampling from the prior; saccade goals are sampled from their posterior after each fixation. The
    generative model is that of policy.py and viewing.py, vectorized over particles; a test compares the two.
Shapes: S particles, M objects, N words, K fixations; xy, px of the canvas of 512 x 320; ms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri
from sklearn.utils.parallel import Parallel, delayed

from sa2va.gaze.scanpath import Fixation
from sa2va.gaze.simulator.cases import SALIENCY_SPREAD
from sa2va.gaze.simulator.observers import POPULATION, Observer
from sa2va.gaze.simulator.policy import (
    AIM_SPREAD,
    CLEAR,
    CLEAR_EXPLORE,
    CLEAR_WAIT,
    EXPLORE_SPREAD,
    INHIBITION,
    INHIBITION_SPAN,
    WAIT_SPREAD,
    holds,
)
from sa2va.gaze.simulator.viewing import (
    BELIEF_DWELL,
    CENTER_SPREAD,
    CORRECTIVE,
    CORRECTIVE_LOG,
    CORRECTIVE_LOG_SPREAD,
    DURATIONS,
    LATENCY_SPREAD,
    MIN_LATENCY,
    SETTLED_DOUBT,
    SETTLING,
    TIMEOUT,
    Stimulus,
)

Array = NDArray[np.float64]
NO_AIM = -1  # the saccade aimed at no object


@dataclass(frozen=True)
class Particles:
    """S samples of an observer's hidden variables."""

    traits: dict[str, Array]  # (S,) each, by field of Observer
    saliency: Array  # (S, M)
    arrivals: Array  # (S, N) ms, time from which each word can influence a saccade

    def __len__(self) -> int:
        return len(self.saliency)


def draw_particles(
    stimulus: Stimulus, count: int, rng: np.random.Generator, *, observer: Observer | None = None
) -> Particles:
    """Sample hidden variables from the simulator's prior: traits, saliency and latencies.

    Args:
        stimulus: Its words and objects are used, its saliency is not.
        count: S.
        rng: Random generator.
        observer: Fixes the traits, if known.
    """
    traits = {}
    for name, trait in POPULATION.items():
        low, high = ndtr((np.array([trait.low, trait.high]) - trait.mean) / trait.spread)
        traits[name] = trait.mean + trait.spread * ndtri(rng.uniform(low, high, count))
        if observer is not None:
            traits[name] = np.full(count, getattr(observer, name))
    saliency = np.exp(rng.normal(0.0, SALIENCY_SPREAD, (count, len(stimulus.boxes))))
    delays = rng.normal(traits["latency"][:, None], LATENCY_SPREAD, (count, len(stimulus.timing.onsets)))
    arrivals = np.array(stimulus.timing.onsets) + np.maximum(delays, MIN_LATENCY)
    return Particles(traits, saliency / saliency.sum(1, keepdims=True), np.maximum.accumulate(arrivals, axis=1))


def log_predictive(
    stimulus: Stimulus,
    fixations: Sequence[Fixation],
    particles: Particles,
    rng: np.random.Generator,
    *,
    aims: Sequence[int | None] | None = None,
) -> Array:
    """Estimate the log density of each fixation given all earlier positions, times and decisions to continue.

    Args:
        stimulus: Scene and speech.
        fixations: K, of one observer, on the canvas.
        particles: S samples of the hidden variables.
        rng: Random generator for the saccade goals.
        aims: The K objects aimed at, if known.

    Returns:
        (K,) natural log of the density per px^2.
    """
    filtered = _ParticleFilter(stimulus, particles)
    logs = []
    for number, fixation in enumerate(fixations):
        point = (fixation.x, fixation.y)
        density = filtered.first_density(point) if number == 0 else filtered.density(point)
        prior = filtered.weights - logsumexp(filtered.weights)
        logs.append(float(logsumexp(prior + np.log(np.maximum(density, 1e-300)))))
        if number + 1 < len(fixations):
            aim = _UNKNOWN if aims is None else aims[number]
            filtered.update(fixation, density, rng, aim, is_first=number == 0)
    return np.array(logs)


_UNKNOWN = "unknown"  # the saccade goal is not given


@dataclass
class _ParticleFilter:
    """S weighted particles that follow one observer."""

    stimulus: Stimulus
    particles: Particles
    weights: Array = field(init=False)  # (S,) log weights
    belief: Array = field(init=False)  # (S, M)
    past_aims: NDArray[np.int64] = field(init=False)  # (S, INHIBITION_SPAN) last aims, newest last

    def __post_init__(self) -> None:
        count = len(self.particles)
        self.weights, self.belief = np.zeros(count), self.particles.saliency
        self.past_aims = np.full((count, INHIBITION_SPAN), NO_AIM)
        boxes = np.array(self.stimulus.boxes)
        self._centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        self._spreads = AIM_SPREAD * (boxes[:, 2:] - boxes[:, :2])
        self._inside = np.zeros(len(boxes), bool)  # objects under the last fixation
        self._before: NDArray[np.bool_] | None = None  # objects under the one before it
        self._point = np.zeros(2)
        self._parts: tuple[Array, ...] = ()

    def first_density(self, point: tuple[float, float]) -> Array:
        """Return the density of the first fixation, equal for all particles: (S,)."""
        x0, y0, x1, y1 = self.stimulus.bounds
        center = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
        return np.full(len(self.particles), self._normal(np.array(point), center, np.full((1, 2), CENTER_SPREAD))[0])

    def density(self, point: tuple[float, float]) -> Array:
        """Compute the density of the next fixation under each particle, (S,)."""
        place = np.array(point)
        objects = self._normal(place, self._centers, self._spreads)  # (M,)
        aimed = self._aims * objects  # (S, M)
        still = self._normal(place, self._point[None], np.full((1, 2), WAIT_SPREAD))[0] * self._wait
        away = self._normal(place, self._point[None], np.full((1, 2), EXPLORE_SPREAD))[0] * self._explore
        self._parts = (aimed, still + away)
        return aimed.sum(1) + still + away

    def update(
        self, fixation: Fixation, density: Array, rng: np.random.Generator, aim: int | str | None, *, is_first: bool
    ) -> None:
        """Reweight the particles by a fixation, its duration and the decision to continue; plan the next saccade."""
        if not is_first:
            self.weights = self.weights + np.log(np.maximum(density, 1e-300))
            self._append_aims(rng, aim)
        self._point = np.array([fixation.x, fixation.y])
        self._before, self._inside = (None if is_first else self._inside), self._objects_here()
        self.weights = self.weights + np.log(np.maximum(self._duration(fixation.duration), 1e-300))
        now = fixation.start + fixation.duration
        heard = (self.particles.arrivals <= now).sum(1)
        over, timed_out = (now >= self.stimulus.timing.duration + wait for wait in (0.0, TIMEOUT))
        self.weights = self.weights + np.log(np.maximum(1 - self._stop(heard, over, timed_out), 1e-300))
        self.belief = self._believe(heard, settled=now >= self.stimulus.timing.duration + SETTLING)
        self._plan(~self.stimulus.possible[heard].all(1), timed_out)

    def _objects_here(self) -> NDArray[np.bool_]:
        return np.array([holds(box, (self._point[0], self._point[1])) for box in self.stimulus.boxes])

    def _append_aims(self, rng: np.random.Generator, aim: int | str | None) -> None:
        """Sample each particle's saccade goal from its posterior given the end point, unless it is known."""
        if aim == _UNKNOWN:
            aimed, undirected = self._parts
            total = np.cumsum(np.concatenate([aimed, undirected[:, None]], axis=1), axis=1)
            goal = rng.random(len(total)) * total[:, -1]
            index = (total <= goal[:, None]).sum(1).clip(max=aimed.shape[1])
            index = np.where(index == aimed.shape[1], NO_AIM, index)
        else:
            index = np.full(len(self.particles), NO_AIM if aim is None else int(aim))
        new = np.concatenate([self.past_aims[:, 1:], index[:, None]], axis=1)
        self.past_aims = np.where((index == NO_AIM)[:, None], self.past_aims, new)

    def _duration(self, duration: float) -> Array:
        here = np.where(self._inside, self.belief, 0.0).max(1)
        traits = self.particles.traits
        regular = _truncated_log_normal(
            duration, traits["log_duration"] + BELIEF_DWELL * here, traits["log_duration_spread"]
        )
        corrective = _truncated_log_normal(duration, np.array(CORRECTIVE_LOG), np.array(CORRECTIVE_LOG_SPREAD))
        return (1 - CORRECTIVE) * regular + CORRECTIVE * corrective

    def _stop(self, heard: NDArray[np.int64], over: bool, timed_out: bool) -> Array:
        left = self.stimulus.possible[heard]  # (S, M)
        one, only = left.sum(1) == 1, left.argmax(1)
        there = one & self._inside[only]
        if timed_out or not over:
            return there * (np.ones(len(heard)) if timed_out else self.particles.traits["stop_before"])
        stayed = self._inside[only] if self._before is None else self._inside[only] & self._before[only]
        chance = np.where(stayed, self.particles.traits["stop_after"], self.particles.traits["stop_arrival"])
        return there * chance

    def _believe(self, heard: NDArray[np.int64], *, settled: bool) -> Array:
        doubt = self.particles.traits["doubt"]
        if settled:
            doubt = np.where(heard == len(self.stimulus.possible) - 1, doubt * SETTLED_DOUBT, doubt)
        weight = self.particles.saliency * np.where(self.stimulus.possible[heard], 1.0, doubt[:, None])
        return weight / weight.sum(1, keepdims=True)

    def _plan(self, informed: NDArray[np.bool_], timed_out: bool) -> None:
        """Compute the weights of waiting and exploring, (S,), and of aiming at each object, (S, M)."""
        traits, belief = self.particles.traits, self.belief
        rows, first = np.arange(len(belief)), belief.argmax(1)
        if timed_out:
            self._wait = self._explore = np.zeros(len(belief))
            self._aims = np.eye(belief.shape[1])[first]
            return
        clear = (belief[rows, first] > CLEAR) & (belief.shape[1] > 1)
        there = clear & self._inside[first]
        wait = np.where(informed, traits["wait_after"], traits["wait_before"])
        wait = np.where(there, traits["wait_there"], wait) * np.where(clear & ~there, CLEAR_WAIT, 1.0)
        explore = (1 - wait) * traits["explore"] * np.where(clear, CLEAR_EXPLORE, 1.0)
        verify = (1 - wait - explore) * traits["verify"] * clear
        far = np.hypot(*(self._centers - self._point).T)
        pull = belief ** traits["sharpness"][:, None] * np.exp(-far / traits["reach"][:, None])
        is_clear = belief[rows, first] > CLEAR
        for aim in self.past_aims.T:
            inhibited = (aim != NO_AIM) & ~(is_clear & (aim == first))
            pull[rows[inhibited], aim[inhibited]] *= INHIBITION
        pull /= pull.sum(1, keepdims=True)
        self._wait, self._explore = wait, explore
        self._aims = (1 - wait - explore - verify)[:, None] * pull
        if belief.shape[1] > 1:
            second = np.argsort(-belief, axis=1, kind="stable")[:, 1]
            self._aims[rows, np.where(there, second, first)] += verify

    def _normal(self, point: Array, centers: Array, spreads: Array) -> Array:
        """Compute the density at a point of G Gaussians truncated to the image: (G, 2) -> (G,)."""
        bounds = np.array(self.stimulus.bounds)
        mass = (ndtr((bounds[2:] - centers) / spreads) - ndtr((bounds[:2] - centers) / spreads)).prod(1)
        z = (point - centers) / spreads
        return np.exp(-(z**2).sum(1) / 2) / (2 * math.pi * spreads.prod(1) * mass)


def _truncated_log_normal(duration: float, mean: Array, spread: Array) -> Array:
    """Compute the density per ms of a log-normal distribution truncated to DURATIONS."""
    low, high = (ndtr((math.log(limit) - mean) / spread) for limit in DURATIONS)
    z = (math.log(duration) - mean) / spread
    return np.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * spread * duration) / (high - low)


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo estimate of bits per fixation, with the contribution of each scanpath."""

    value: float
    standard_error: float
    sums: Array  # bits of all fixations of each scanpath, mean of the estimates
    counts: Array  # fixations of each scanpath


def estimate_bits(
    scanpaths: Sequence[tuple[Stimulus, Sequence[Fixation]]],
    *,
    count: int,
    repeats: int,
    seed: int,
    area: float,
    jobs: int = 1,
) -> Estimate:
    """Estimate the oracle's bits per fixation above a uniform density, all fixations pooled.

    Args:
        scanpaths: Stimulus and fixations of each.
        count: S, particles per estimate.
        repeats: Number of independent estimates, for the standard error.
        seed: Random seed.
        area: px^2 of the uniform density.
        jobs: Number of processes; -1 = one per core.
    """
    tasks = [
        delayed(_scanpath_bits)(stimulus, fixations, count, [[seed, repeat, number] for repeat in range(repeats)], area)
        for number, (stimulus, fixations) in enumerate(scanpaths)
    ]
    sums = np.array(Parallel(n_jobs=jobs, batch_size=50, backend="loky")(tasks))  # (scanpaths, repeats)
    counts = np.array([len(fixations) for _, fixations in scanpaths], float)
    means = sums.sum(0) / counts.sum()
    error = float(np.std(means, ddof=1) / math.sqrt(repeats)) if repeats > 1 else math.nan
    return Estimate(float(means.mean()), error, sums.mean(1), counts)


def _scanpath_bits(
    stimulus: Stimulus, fixations: Sequence[Fixation], count: int, seeds: Sequence[Sequence[int]], area: float
) -> list[float]:
    """Sum the bits of one scanpath's fixations, once per seed."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        logs = log_predictive(stimulus, fixations, draw_particles(stimulus, count, rng), rng)
        found.append(float((logs + math.log(area)).sum() / math.log(2)))
    return found
