"""Sample simulated observers: their latency, saccade habits, fixation durations and stopping rule.

Flow: (seed, subject) -> draw_observer -> Observer -> viewing.py; kept with every scanpath as ground truth.
Source: fitted so that the population matches statistics of the 220 people of RefCOCO-Gaze, arXiv:2407.19605.
Shapes: none; lengths are px of the canvas of 512 x 320.
"""

from dataclasses import dataclass, fields
from zlib import crc32

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Observer:
    """The traits of one observer."""

    latency: float  # ms from a word's onset to the first saccade that it can influence
    wait_before: float  # probability of waiting (a small saccade) before a word has ruled out an object
    wait_after: float  # the same, after a word has ruled out an object
    wait_there: float  # the same, on the clear candidate
    explore: float  # probability of an undirected saccade, if not waiting
    verify: float  # probability of checking another candidate, if one is clear
    doubt: float  # share of the attraction that a ruled-out object keeps
    sharpness: float  # exponent of the belief in the choice of a goal
    reach: float  # px at which the attraction of an object falls to 1/e
    stop_before: float  # probability of stopping after a fixation on the target during the speech
    stop_arrival: float  # the same, for the first fixation on the target after the speech
    stop_after: float  # the same, for later fixations on the target
    log_duration: float  # mean of ln(duration in ms), without corrective fixations
    log_duration_spread: float  # its SD


@dataclass(frozen=True)
class Trait:
    """Population distribution of a trait: a Gaussian truncated to [low, high]."""

    mean: float
    spread: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Sample the trait by rejection."""
        while True:
            value = float(rng.normal(self.mean, self.spread))
            if self.low <= value <= self.high:
                return value


POPULATION: dict[str, Trait] = {
    "latency": Trait(292.0, 30.0, 180.0, 390.0),
    "wait_before": Trait(0.33, 0.07, 0.05, 0.60),
    "wait_after": Trait(0.48, 0.07, 0.20, 0.75),
    "wait_there": Trait(0.29, 0.07, 0.05, 0.60),
    "explore": Trait(0.44, 0.10, 0.10, 0.80),
    "verify": Trait(0.20, 0.07, 0.02, 0.50),
    "doubt": Trait(0.06, 0.03, 0.01, 0.20),
    "sharpness": Trait(1.50, 0.15, 1.00, 2.00),
    "reach": Trait(54.0, 8.00, 30.0, 80.0),
    "stop_before": Trait(0.17, 0.05, 0.02, 0.40),
    "stop_arrival": Trait(0.45, 0.10, 0.15, 0.80),
    "stop_after": Trait(0.69, 0.10, 0.30, 0.95),
    "log_duration": Trait(5.43, 0.15, 4.90, 6.00),
    "log_duration_spread": Trait(0.42, 0.05, 0.35, 0.70),
}
assert set(POPULATION) == {field.name for field in fields(Observer)}


def draw_observer(seed: int, subject: int) -> Observer:
    """Sample one observer, deterministically.

    Args:
        seed: Random seed of the population, >= 0.
        subject: Index of the observer, >= 0.
    """
    if seed < 0 or subject < 0:
        raise ValueError(f"draw_observer: seed {seed} and subject {subject} must not be negative")
    rng = np.random.default_rng([seed, crc32(b"observer"), subject])
    return Observer(**{name: trait.draw(rng) for name, trait in POPULATION.items()})
