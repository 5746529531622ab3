"""Define the interface of every system in a table of scanpath metrics: fit, sample and score likelihoods.

Flow: trials on the canvas -> fit; a case -> sample -> Scanpaths; a trial -> log_density, pack_size_log_prob
    -> evaluation/. Image-blind baselines, rebuilt published decoders and our own model implement it.
Shapes: K fixations of a trial, N words.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial


class Baseline(Protocol):
    """A system that predicts scanpaths. Coordinates are px of the canvas of 512 x 320."""

    name: str

    def fit(self, trials: Sequence[Trial]) -> None:
        """Train from scratch; a baseline without parameters does nothing.

        Global random generators keep their state.

        Args:
            trials: Training trials on the canvas.
        """
        ...

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        """Sample scanpaths of a case, deterministically in the seed.

        Args:
            case: Its words, timing and target may be used, its fixations must not.
            num_samples: Number of scanpaths. A deterministic baseline repeats the same one.
            seed: Random seed.
        """
        ...

    def log_density(self, trial: Trial) -> NDArray[np.float64] | None:
        """Compute the log density of each recorded fixation given all earlier ones.

        Returns:
            (K,) natural log of the position density per px^2, which integrates to 1 over the canvas. None for a
            baseline without a density.
        """
        ...

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64] | None:
        """Compute the log probability of each recorded pack size given all earlier packs.

        Returns:
            (N + 2,) natural log of the probability of the size class: 0, 1, 2, 3 or more (metrics/sizes.py). None for a
            baseline without probabilities.
        """
        ...
