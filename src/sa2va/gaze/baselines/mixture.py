"""Say how likely a fixation is from simple causes: the middle, the fixation before, the target. No picture is seen.

Flow: trials -> MixtureLook.fit -> log_density and samples: the references that "bits" are read against.
Source: our own; a mixture of normal laws, its weights found by expectation maximisation for each kind of moment.
Shapes: K fixations, C causes, G kinds of moments; xy, px of the canvas of 512 x 320.
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

STEPS = (7.0, 18.0, 40.0, 80.0)  # px, SD of laws around the fixation before
LANDINGS = (0.12, 0.25, 0.5)  # SD of laws around the middle of the target, in widths and heights of its box
LEAST_SPREAD = 4.0  # px
MAX_LEFT = 4  # words still to come that are told apart
KINDS = MAX_LEFT + 5  # first fixation, others before the words, words by words left, first and later ones after
ROUNDS, PRIOR = 40, 1.0  # of expectation maximisation; fixations that each cause has beforehand
FIRST_SIGMA, SIGMA = 6.0, 20.0  # px, blur of people's places: where they begin is the same every time
ATTEMPTS = 1000


def moments(sizes: Sequence[int], *, ordered: bool) -> NDArray[np.int64]:
    """(K,) kind of moment of each fixation, 0..G - 1, from the sizes of its scanpath's packs."""
    kinds = []
    for pack, size in enumerate(sizes):
        left = len(sizes) - 2 - pack
        for number in range(size):
            later = int(ordered and number > 0)
            if pack == 0:
                kinds.append(later)
            elif left < 0:
                kinds.append(KINDS - 2 + later)
            else:
                kinds.append(2 + min(left, MAX_LEFT))
    return np.array(kinds, np.int64)


class MixtureLook:
    """A reference with a density."""

    def __init__(
        self, name: str, *, by_word: bool = True, ordered: bool = False, previous: bool = True, target: bool = True
    ) -> None:
        """Choose its causes.

        Args:
            name: of its row in a table.
            by_word: how many words are still to come counts; otherwise all moments are alike.
            ordered: the first fixation before the words, which nobody chose and which is known to lie near the
                middle, and the first one after them are told apart from those that follow.
            previous: the place of the fixation before counts.
            target: the box of the target is known.
        """
        self.name, self.by_word, self.ordered = name, by_word, ordered
        self.previous, self.target = previous, target
        self.sizes = PackSizes()
        self._begin()

    def _begin(self) -> None:
        """Forget what was learned."""
        self.biases = np.full((KINDS, *CANVAS[::-1]), 1 / (CANVAS[0] * CANVAS[1]))  # (G, H, W)
        self.heights = self.biases.reshape(KINDS, -1).cumsum(1)  # (G, H W), to draw from
        num_causes = 2 + len(STEPS) * self.previous + len(LANDINGS) * self.target
        self.weights = np.full((KINDS, num_causes), 1 / num_causes)  # (G, C)

    def fit(self, trials: Sequence[Trial]) -> None:
        self._begin()
        self.sizes.fit(trials)
        rows = [(self._kinds(trial.scanpath.sizes), trial.scanpath.points) for trial in trials]
        kinds, points = (np.concatenate(column) for column in zip(*rows, strict=True))
        for kind in range(KINDS):
            here = points[kinds == kind]
            if len(here):
                sigma = FIRST_SIGMA if kind == 0 and self.ordered else SIGMA
                self.biases[kind] = center_bias(here, *CANVAS, sigma=sigma)
        self.heights = self.biases.reshape(KINDS, -1).cumsum(1)
        causes = np.concatenate([self._causes(trial) for trial in trials])  # (K, C)
        for _ in range(ROUNDS):
            shares = self.weights[kinds] * causes
            shares /= shares.sum(1, keepdims=True)
            for kind in range(KINDS):
                counts = shares[kinds == kind].sum(0) + PRIOR
                self.weights[kind] = counts / counts.sum()

    def log_density(self, trial: Trial) -> NDArray[np.float64]:
        weights = self.weights[self._kinds(trial.scanpath.sizes)]
        return np.log((weights * self._causes(trial)).sum(1))

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        return self.sizes.log_prob(trial)

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        rng = np.random.default_rng(seed)
        return [build_scanpath(case, self._look(case, self.sizes.draw(case, rng), rng)) for _ in range(num_samples)]

    def _kinds(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        return moments(sizes, ordered=self.ordered) if self.by_word else np.full(sum(sizes), 1, np.int64)

    def _causes(self, trial: Trial) -> NDArray[np.float64]:
        """(K, C) density of each fixation if one cause alone had made it."""
        path = trial.scanpath
        points, kinds = path.points, self._kinds(path.sizes)
        flat = np.full(len(points), 1 / (CANVAS[0] * CANVAS[1]))
        columns = [flat, self.biases[(kinds, *pixel_indices(points, *CANVAS))]]
        before = np.concatenate([[np.array(CANVAS) / 2], points[:-1]])[: len(points)]
        for number, (center, spread) in enumerate(self._laws(trial, before)):
            column = normal_density(points, center, spread)
            if number < len(STEPS) * self.previous and not self.ordered:
                column[:1] = columns[1][:1]  # nothing comes before the first fixation
            columns.append(column)
        return np.stack(columns, axis=1)

    def _laws(self, case: Trial, before: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Middle, (K, 2) or (2,), and spread, (2,), of each normal law, given the K fixations before."""
        laws = [(before, np.array([step, step])) for step in STEPS] if self.previous else []
        if self.target:
            if case.target is None:
                raise ValueError(f"case {case.case}: it has no target box; leave out {self.name!r}")
            x0, y0, x1, y1 = case.target
            size = np.array([x1 - x0, y1 - y0])
            middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
            laws += [(middle, np.maximum(share * size, LEAST_SPREAD)) for share in LANDINGS]
        return laws

    def _look(self, case: Trial, sizes: Sequence[int], rng: np.random.Generator) -> list[list[NDArray[np.float64]]]:
        place, packs, kinds = None, [], iter(self._kinds(sizes))
        for size in sizes:
            points = []
            for _ in range(size):
                place = self._draw(case, int(next(kinds)), place, rng)
                points.append(place)
            packs.append(points)
        return packs

    def _draw(
        self, case: Trial, kind: int, before: NDArray[np.float64] | None, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        cause = int(rng.choice(len(self.weights[kind]), p=self.weights[kind]))
        if before is None:
            before = np.array(CANVAS) / 2
            if not self.ordered and 2 <= cause < 2 + len(STEPS) * self.previous:
                cause = 1  # as in the density
        if cause == 0:
            return rng.uniform((0, 0), CANVAS)
        if cause == 1:
            heights = self.heights[kind]
            pixel = int(np.searchsorted(heights, rng.random() * heights[-1]))
            row, column = divmod(min(pixel, len(heights) - 1), CANVAS[0])
            return np.array([column, row]) + rng.random(2)
        center, spread = self._laws(case, before)[cause - 2]
        for _ in range(ATTEMPTS):
            point = rng.normal(center, spread)
            if (point >= 0).all() and (point < CANVAS).all():
                return point
        return np.clip(center, 0, np.array(CANVAS) - 1)


def normal_density(
    points: NDArray[np.float64], centers: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Density of a normal law that is cut off at the edge of the canvas.

    Args:
        points: (K, 2) xy, px.
        centers: (K, 2) or (2,).
        spread: (2,) SD.

    Returns:
        (K,) per px^2.
    """
    inside = ndtr((np.array(CANVAS) - centers) / spread) - ndtr(-centers / spread)
    density = np.exp(-(((points - centers) / spread) ** 2) / 2) / (np.sqrt(2 * np.pi) * spread)
    return (density / np.maximum(inside, 1e-12)).prod(-1)


def references() -> list[MixtureLook]:
    """The ladder of references, each knowing one thing more than the one before."""
    return [
        MixtureLook("centre bias", by_word=False, previous=False, target=False),
        MixtureLook("centre bias by word", previous=False, target=False),
        MixtureLook("previous fixation", target=False),
        MixtureLook("previous fixation + target box"),
        MixtureLook("previous fixation + target box + order", ordered=True),
    ]
