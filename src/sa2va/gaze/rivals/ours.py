"""Enter the event decoder into the table: told where the target is, it sees no picture.

Flow: trials -> train_recorded -> EventDecoder; a case -> Rollout -> Scanpaths; a trial -> one causal pass.
Shapes: K fixations of a trial, N words.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.sizes import size_classes, size_probabilities
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import EventBatch, collate, words_of, write_tokens
from sa2va.gaze.model.losses import TokenTerms, predictive, token_terms
from sa2va.gaze.model.oracle import box_map
from sa2va.gaze.model.rollout import Landing, Rollout
from sa2va.gaze.model.sizes import sample_sizes
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.training.recorded import RecordedConfig, train_recorded
from sa2va.gaze.trial import Trial


class EventLook:
    """Our decoder without its language model: the target's box stands for what that would have understood."""

    name = "event decoder, target given"

    def __init__(
        self, decoder: EventDecoder | None = None, *, config: RecordedConfig | None = None, landing: Landing = "soft"
    ) -> None:
        self._decoder, self._config, self._landing = decoder, config, landing

    @property
    def decoder(self) -> EventDecoder:
        """The trained decoder.

        Raises:
            ValueError: nothing has been learned yet.
        """
        if self._decoder is None:
            raise ValueError(f"{self.name}: it has learned nothing yet; call fit first")
        return self._decoder

    def fit(self, trials: Sequence[Trial]) -> None:
        """Train a decoder anew."""
        self._decoder = train_recorded(trials, self._config)

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        rollout = Rollout(self.decoder, num_samples=num_samples, seed=seed, landing=self._landing)
        words = case.scanpath.words
        belief = box_map(case.target, self.decoder.config.grid)
        rows: list[list[Fixation]] = [[] for _ in range(num_samples)]
        indices: list[list[int]] = [[] for _ in range(num_samples)]
        for pack, word in enumerate(words_of(words, case.timing)):
            for row, index, new in zip(rows, indices, rollout.hear(word, belief), strict=True):
                row += new
                index += [pack] * len(new)
        return [
            Scanpath.from_packs(row, index, words, width=CANVAS[0], height=CANVAS[1], image=case.scanpath.image)
            for row, index in zip(rows, indices, strict=True)
        ]

    @torch.no_grad()
    def log_density(self, trial: Trial) -> NDArray[np.float64]:
        if not trial.scanpath.fixations:
            return np.zeros(0)
        batch, terms = self._pass(trial)
        return predictive(terms, self.decoder)[batch.looks].double().numpy()

    @torch.no_grad()
    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        """As in `Rival`; a person's fixations before a pack are known with their durations."""
        if not trial.scanpath.fixations:
            return np.zeros(len(trial.scanpath.packs))
        batch, terms = self._pass(trial)
        words = words_of(trial.scanpath.words, trial.timing)
        table = size_probabilities(sample_sizes(self.decoder, trial.scanpath, words, batch, terms))
        return np.log(table[np.arange(len(table)), size_classes(trial.scanpath.sizes)])

    def _pass(self, trial: Trial) -> tuple[EventBatch, TokenTerms]:
        belief = box_map(trial.target, self.decoder.config.grid)
        tokens = write_tokens(trial.scanpath, trial.timing)
        batch = collate([tokens], [belief.expand(len(trial.scanpath.packs), -1, -1)])
        return batch, token_terms(self.decoder, batch)
