"""Image-blind mixture baselines with a density: center bias, previous fixation, target box.

Flow: trials -> MixtureBaseline.fit -> log_density and samples: the references for bits per fixation.
Source: our own; a mixture of Gaussians, its weights fitted by expectation maximization per phase of the expression.
Shapes: K fixations, C components, G phases; xy, px of the canvas of 512 x 320.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sa2va.gaze.baselines.packs import PackSizes, build_scanpath
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.likelihood import center_bias
from sa2va.gaze.metrics.strings import pixel_indices
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial

STEPS = (7.0, 18.0, 40.0, 80.0)  # px, SD of components around the previous fixation
TARGET_SPREADS = (0.12, 0.25, 0.5)  # SD of components around the target's center, in widths and heights of its box
MIN_SPREAD = 4.0  # px
MAX_LEFT = 4  # words left; this many or more share one phase
PHASES = MAX_LEFT + 5  # first and later fixations before the words, 0..4 words left, first and later ones after them
ROUNDS, PRIOR = 40, 1.0  # expectation maximization: iterations, pseudocount per component
FIRST_SIGMA, SIGMA = 6.0, 20.0  # px, kernel of the center bias; the first fixation varies less
ATTEMPTS = 1000  # samples until one lies on the canvas


def phases_of(sizes: Sequence[int], *, ordered: bool) -> NDArray[np.int64]:
    """Compute each fixation's phase, (K,) in 0..G - 1, from the scanpath's pack sizes."""
    phases = []
    for pack, size in enumerate(sizes):
        left = len(sizes) - 2 - pack
        for number in range(size):
            later = int(ordered and number > 0)
            if pack == 0:
                phases.append(later)
            elif left < 0:
                phases.append(PHASES - 2 + later)
            else:
                phases.append(2 + min(left, MAX_LEFT))
    return np.array(phases, np.int64)


class MixtureBaseline:
    """Mixture of a uniform density, a center bias and Gaussians around the previous fixation and the target."""

    def __init__(
        self, name: str, *, by_word: bool = True, ordered: bool = False, previous: bool = True, target: bool = True
    ) -> None:
        """Choose the components.

        Args:
            name: Name of the row in a table.
            by_word: Fit weights by the number of words left; otherwise one set of weights.
            ordered: Use separate phases for the first fixation before the words, which is near the center, and for the
                first one after them.
            previous: Add components around the previous fixation.
            target: Add components around the given target box.
        """
        self.name, self.by_word, self.ordered = name, by_word, ordered
        self.previous, self.target = previous, target
        self.sizes = PackSizes()
        self._reset()

    def _reset(self) -> None:
        """Discard the fitted parameters."""
        self.biases = np.full((PHASES, *CANVAS[::-1]), 1 / (CANVAS[0] * CANVAS[1]))  # (G, H, W)
        self.cumulative = self.biases.reshape(PHASES, -1).cumsum(1)  # (G, H W), for sampling
        num_components = 2 + len(STEPS) * self.previous + len(TARGET_SPREADS) * self.target
        self.weights = np.full((PHASES, num_components), 1 / num_components)  # (G, C)

    def fit(self, trials: Sequence[Trial]) -> None:
        self._reset()
        self.sizes.fit(trials)
        rows = [(self._phases(trial.scanpath.sizes), trial.scanpath.points) for trial in trials]
        phases, points = (np.concatenate(column) for column in zip(*rows, strict=True))
        for phase in range(PHASES):
            here = points[phases == phase]
            if len(here):
                sigma = FIRST_SIGMA if phase == 0 and self.ordered else SIGMA
                self.biases[phase] = center_bias(here, *CANVAS, sigma=sigma)
        self.cumulative = self.biases.reshape(PHASES, -1).cumsum(1)
        densities = np.concatenate([self._densities(trial) for trial in trials])  # (K, C)
        for _ in range(ROUNDS):
            shares = self.weights[phases] * densities
            shares /= shares.sum(1, keepdims=True)
            for phase in range(PHASES):
                counts = shares[phases == phase].sum(0) + PRIOR
                self.weights[phase] = counts / counts.sum()

    def log_density(self, trial: Trial) -> NDArray[np.float64]:
        weights = self.weights[self._phases(trial.scanpath.sizes)]
        return np.log((weights * self._densities(trial)).sum(1))

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        return self.sizes.log_prob(trial)

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        rng = np.random.default_rng(seed)
        return [build_scanpath(case, self._walk(case, self.sizes.draw(case, rng), rng)) for _ in range(num_samples)]

    def _phases(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        return phases_of(sizes, ordered=self.ordered) if self.by_word else np.full(sum(sizes), 1, np.int64)

    def _densities(self, trial: Trial) -> NDArray[np.float64]:
        """Compute the density of each fixation under each component, (K, C)."""
        path = trial.scanpath
        points, phases = path.points, self._phases(path.sizes)
        flat = np.full(len(points), 1 / (CANVAS[0] * CANVAS[1]))
        columns = [flat, self.biases[(phases, *pixel_indices(points, *CANVAS))]]
        before = np.concatenate([[np.array(CANVAS) / 2], points[:-1]])[: len(points)]
        for number, (center, spread) in enumerate(self._gaussians(trial, before)):
            column = normal_density(points, center, spread)
            if number < len(STEPS) * self.previous and not self.ordered:
                column[:1] = columns[1][:1]  # the first fixation has no previous one
            columns.append(column)
        return np.stack(columns, axis=1)

    def _gaussians(
        self, case: Trial, before: NDArray[np.float64]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """List the mean, (K, 2) or (2,), and SD, (2,), of each Gaussian, given the K previous fixations."""
        gaussians = [(before, np.array([step, step])) for step in STEPS] if self.previous else []
        if self.target:
            if case.target is None:
                raise ValueError(f"case {case.case}: no target box, which {self.name!r} needs; leave this baseline out")
            x0, y0, x1, y1 = case.target
            size = np.array([x1 - x0, y1 - y0])
            middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
            gaussians += [(middle, np.maximum(share * size, MIN_SPREAD)) for share in TARGET_SPREADS]
        return gaussians

    def _walk(self, case: Trial, sizes: Sequence[int], rng: np.random.Generator) -> list[list[NDArray[np.float64]]]:
        place, packs, phases = None, [], iter(self._phases(sizes))
        for size in sizes:
            points = []
            for _ in range(size):
                place = self._draw(case, int(next(phases)), place, rng)
                points.append(place)
            packs.append(points)
        return packs

    def _draw(
        self, case: Trial, phase: int, before: NDArray[np.float64] | None, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        component = int(rng.choice(len(self.weights[phase]), p=self.weights[phase]))
        if before is None:
            before = np.array(CANVAS) / 2
            if not self.ordered and 2 <= component < 2 + len(STEPS) * self.previous:
                component = 1  # as in the density
        if component == 0:
            return rng.uniform((0, 0), CANVAS)
        if component == 1:
            cumulative = self.cumulative[phase]
            pixel = int(np.searchsorted(cumulative, rng.random() * cumulative[-1]))
            row, column = divmod(min(pixel, len(cumulative) - 1), CANVAS[0])
            return np.array([column, row]) + rng.random(2)
        center, spread = self._gaussians(case, before)[component - 2]
        for _ in range(ATTEMPTS):
            point = rng.normal(center, spread)
            if (point >= 0).all() and (point < CANVAS).all():
                return point
        return np.clip(center, 0, np.array(CANVAS) - 1)


def normal_density(
    points: NDArray[np.float64], centers: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the density of a Gaussian truncated to the canvas.

    Args:
        points: (K, 2) xy, px.
        centers: (K, 2) or (2,).
        spread: (2,) SD, px.

    Returns:
        (K,) per px^2.
    """
    inside = ndtr((np.array(CANVAS) - centers) / spread) - ndtr(-centers / spread)
    density = np.exp(-(((points - centers) / spread) ** 2) / 2) / (np.sqrt(2 * np.pi) * spread)
    return (density / np.maximum(inside, 1e-12)).prod(-1)


def references() -> list[MixtureBaseline]:
    """List the reference baselines, each with one more input than the one before."""
    return [
        MixtureBaseline("center bias", by_word=False, previous=False, target=False),
        MixtureBaseline("center bias by word", previous=False, target=False),
        MixtureBaseline("previous fixation", target=False),
        MixtureBaseline("previous fixation + target box"),
        MixtureBaseline("previous fixation + target box + order", ordered=True),
    ]
