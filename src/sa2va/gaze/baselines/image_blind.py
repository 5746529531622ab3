"""Image-blind baselines: random, center, another image's scanpath, straight line, saccade walk.

Flow: trials -> fit; a case -> sample -> Scanpaths; a model should beat all of them.
Shapes: K fixations, N words; xy, px of the canvas of 512 x 320.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.baselines.packs import PackSizes, build_scanpath
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.likelihood import uniform_log_density
from sa2va.gaze.metrics.target import Box, inside_box
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial

CENTER = np.array(CANVAS) / 2
NO_STEP = np.zeros((1, 2))  # (V, 2) px, for training data without saccades
ATTEMPTS = 1000  # samples until one lies on the canvas


class RandomBaseline:
    """Uniform positions over the canvas, or over the part that shows the image; human pack sizes."""

    def __init__(self, part: Box | None = None) -> None:
        self.name = "random" if part is None else "random, in the picture"
        self.part: Box = part or (0.0, 0.0, float(CANVAS[0]), float(CANVAS[1]))
        self.sizes = PackSizes()

    def fit(self, trials: Sequence[Trial]) -> None:
        self.sizes.fit(trials)

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        rng = np.random.default_rng(seed)
        drawn = [self.sizes.draw(case, rng) for _ in range(num_samples)]
        low, high = self.part[:2], self.part[2:]
        return [build_scanpath(case, [rng.uniform(low, high, (size, 2)) for size in sizes]) for sizes in drawn]

    def log_density(self, trial: Trial) -> NDArray[np.float64]:
        x0, y0, x1, y1 = self.part
        points = np.clip(trial.scanpath.points, 0, CANVAS)
        return np.where(inside_box(points, self.part), uniform_log_density(len(points), x1 - x0, y1 - y0), -np.inf)

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        return self.sizes.log_prob(trial)


class NoDensity:
    """Base of baselines without training, density and size probabilities."""

    def fit(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def log_density(self, trial: Trial) -> None:
        return None

    def pack_size_log_prob(self, trial: Trial) -> None:
        return None


class CenterBaseline(NoDensity):
    """One fixation per pack, at the center of the canvas."""

    name = "center"

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        return [build_scanpath(case, [[CENTER]] * len(case.scanpath.packs))] * num_samples


class StraightLine(NoDensity):
    """One fixation per pack, in equal steps from the center to the given target.

    It is not humanlike and still scores higher than people on most similarity metrics.
    """

    name = "straight line to the target"

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        if case.target is None:
            raise ValueError(f"case {case.case}: no target box, which {self.name!r} needs; leave this baseline out")
        x0, y0, x1, y1 = case.target
        steps = np.linspace(0, 1, len(case.scanpath.packs))[:, None]
        points = CENTER + steps * (np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - CENTER)
        return [build_scanpath(case, [[point] for point in points])] * num_samples


class OtherImageBaseline(NoDensity):
    """A person's scanpath over another image, pack by pack, from an expression of the most similar length."""

    name = "human of another image"

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def fit(self, trials: Sequence[Trial]) -> None:
        self.trials = list(trials)

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        others = [trial for trial in self.trials if trial.picture != case.picture]
        if not others:
            raise ValueError(f"case {case.case}: no training trial of another image; {self.name!r} needs two images")
        num_packs = len(case.scanpath.packs)
        gaps = np.array([abs(len(trial.scanpath.packs) - num_packs) for trial in others])
        near = np.flatnonzero(gaps == gaps.min())
        chosen = np.random.default_rng(seed).choice(near, num_samples)
        return [build_scanpath(case, fit_packs(others[number].scanpath.pack_points, num_packs)) for number in chosen]


def fit_packs(packs: list[NDArray[np.float64]], num_packs: int) -> list[NDArray[np.float64]]:
    """Change the number of packs by dropping the last words, or by inserting empty packs before the end."""
    words = packs[1:-1][: num_packs - 2]
    return [packs[0], *words, *[np.zeros((0, 2))] * (num_packs - 2 - len(words)), packs[-1]]


class SaccadeWalk:
    """Random walk from the center with saccade vectors of people over other images; human pack sizes."""

    name = "human saccades, no picture"

    def __init__(self) -> None:
        self.sizes = PackSizes()
        self.steps = NO_STEP  # (V, 2) px

    def fit(self, trials: Sequence[Trial]) -> None:
        self.sizes.fit(trials)
        steps = np.concatenate([np.diff(trial.scanpath.points, axis=0) for trial in trials])
        self.steps = steps if len(steps) else NO_STEP

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        rng = np.random.default_rng(seed)
        return [build_scanpath(case, self._walk(self.sizes.draw(case, rng), rng)) for _ in range(num_samples)]

    def _walk(self, sizes: Sequence[int], rng: np.random.Generator) -> list[list[NDArray[np.float64]]]:
        place, packs = None, []
        for size in sizes:
            points = []
            for _ in range(size):
                place = CENTER if place is None else self._step(place, rng)
                points.append(place)
            packs.append(points)
        return packs

    def _step(self, place: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        for _ in range(ATTEMPTS):
            there = place + self.steps[rng.integers(len(self.steps))]
            if (there >= 0).all() and (there < CANVAS).all():
                return there
        return place

    def log_density(self, trial: Trial) -> None:
        return None

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        return self.sizes.log_prob(trial)
