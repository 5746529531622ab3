"""Name what every system in a table of scanpaths can do: learn, look, and say how likely a person's look was.

Flow: trials on the canvas -> fit; a case -> sample -> Scanpaths; a trial -> log_density, pack_size_log_prob
    -> evaluation/. Baselines, re-built published decoders and our own model are all rivals.
Shapes: K fixations of a trial, N words.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial


class Rival(Protocol):
    """A system that looks at pictures while it listens. Places are px of the canvas of 512 x 320."""

    name: str

    def fit(self, trials: Sequence[Trial]) -> None:
        """Learn from people, and forget what an earlier call left; a rival without parameters does nothing.

        The random generators of the process stay as they are.

        Args:
            trials: of pictures that will not be scored, on the canvas.
        """
        ...

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        """Look at a case as many times as asked; the same seed looks the same way again.

        Args:
            case: the words of its scanpath, its timing and target may be used, its fixations must not be.
            num_samples: how many scanpaths to return. A rival without chance returns the same one each time.
            seed: of everything that is drawn.
        """
        ...

    def log_density(self, trial: Trial) -> NDArray[np.float64] | None:
        """Say how likely each fixation of a person was, given all those before it.

        Returns:
            (K,) natural log of the density of its place, per px^2 of the canvas; the density of each fixation
            sums to 1 over the canvas. None for a rival without a density.
        """
        ...

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64] | None:
        """Say how likely the size of each pack of a person was, given all packs before it.

        Returns:
            (N + 2,) natural log of the probability of its class of sizes: 0, 1, 2, 3 or more (metrics/sizes.py).
            None for a rival without probabilities.
        """
        ...
