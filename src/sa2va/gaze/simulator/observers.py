"""Draw the people who look at the drawn world: how fast they understand, how they move, when they stop.

Flow: (seed, subject) -> draw_observer -> Observer -> viewing.py; kept with every scanpath, for it is the truth that
    a model of gaze should recover.
Source: chosen so that a crowd of them looks like the 220 people of RefCOCO-Gaze, arXiv:2407.19605.
Shapes: none; lengths are px of the canvas of 512 x 320.
"""

from dataclasses import dataclass, fields
from zlib import crc32

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Observer:
    """How one person looks."""

    latency: float  # ms from the onset of a word to the first saccade that it can change
    wait_before: float  # chance to stay about where one is, before a word has ruled out anything
    wait_after: float  # the same, once a word has
    wait_there: float  # the same, on an object that stands out
    explore: float  # chance to go nowhere in particular, if not waiting
    verify: float  # chance to check, once one object stands out
    doubt: float  # what an object that the words rule out keeps of its attraction
    sharpness: float  # power of the belief in the choice of where to go
    reach: float  # px at which the attraction of an object falls to 1/e
    stop_before: float  # chance to be done after a fixation on the target, while the speech goes on
    stop_arrival: float  # the same on arrival at the target, once the speech is over
    stop_after: float  # the same after a further fixation on it
    log_duration: float  # mean of ln(fixation in ms), hasty ones left out
    log_duration_spread: float  # its SD


@dataclass(frozen=True)
class Trait:
    """How a field of Observer differs between people: a normal distribution between two limits."""

    mean: float
    spread: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw until it lies between the limits."""
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
    """Return one person, always the same one for the same numbers.

    Args:
        seed: of the drawn world, >= 0.
        subject: number of the person, >= 0.
    """
    if seed < 0 or subject < 0:
        raise ValueError(f"draw_observer: seed {seed} and subject {subject} must not be negative")
    rng = np.random.default_rng([seed, crc32(b"observer"), subject])
    return Observer(**{name: trait.draw(rng) for name, trait in POPULATION.items()})
