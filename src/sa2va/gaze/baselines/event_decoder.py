"""Enter the event decoder into a table: told where the target is, or on what a Sa2VA made of the words.

Flow: a case -> what is heard of it (Understanding) -> Rollout -> Scanpaths; a trial -> one causal pass -> densities.
Shapes: K fixations of a trial, N words, P = N + 2 packs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.sizes import size_classes, size_probabilities
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import EventBatch, collate, words_of, write_tokens
from sa2va.gaze.model.losses import TokenTerms, predictive, token_terms
from sa2va.gaze.model.oracle import box_map
from sa2va.gaze.model.rollout import Landing, Rollout
from sa2va.gaze.model.scanpath_model import ScanpathModel, Understanding, draw_scene, view
from sa2va.gaze.model.sight import Scene
from sa2va.gaze.model.sizes import sample_sizes
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.training.recorded import RecordedConfig, train_recorded
from sa2va.gaze.training.simulated import Beliefs
from sa2va.gaze.training.store import Store
from sa2va.gaze.trial import Trial
from sa2va.media.source import open_media
from sa2va.training.loader import to_device


class _DecoderLook(ABC):
    """An event decoder, and what it hears of a case."""

    name: str
    landing: Landing = "soft"

    @property
    @abstractmethod
    def decoder(self) -> EventDecoder:
        """In eval mode."""

    @abstractmethod
    def hear(self, case: Trial) -> Understanding:
        """Say what is known of a case, pack by pack."""

    @torch.no_grad()
    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        heard, words = self.hear(case), case.scanpath.words
        rollout = Rollout(
            self.decoder, num_samples=num_samples, seed=seed, landing=self.landing, view=self._view(heard)
        )
        rows: list[list[Fixation]] = [[] for _ in range(num_samples)]
        indices: list[list[int]] = [[] for _ in range(num_samples)]
        for pack, word in enumerate(words_of(words, case.timing)):
            state = None if heard.states is None else heard.states[0, pack]
            for row, index, new in zip(rows, indices, rollout.hear(word, heard.beliefs[0, pack], state), strict=True):
                row += new
                index += [pack] * len(new)
        return [
            Scanpath.from_packs(row, index, words, width=CANVAS[0], height=CANVAS[1], image=case.scanpath.image)
            for row, index in zip(rows, indices, strict=True)
        ]

    def log_density(self, trial: Trial) -> NDArray[np.float64] | None:
        return self.log_densities([trial])[0]

    @torch.no_grad()
    def log_densities(self, trials: Sequence[Trial]) -> list[NDArray[np.float64]]:
        """As `log_density`, of several people who saw the same case."""
        seen = [trial for trial in trials if trial.scanpath.fixations]
        if not seen:
            return [np.zeros(0) for _ in trials]
        batch, terms = self._pass(seen)
        logs = predictive(terms, self.decoder)
        rows = iter([row[looks].double().numpy() for row, looks in zip(logs, batch.looks, strict=True)])
        return [next(rows) if trial.scanpath.fixations else np.zeros(0) for trial in trials]

    @torch.no_grad()
    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64] | None:
        """As in `Rival`; a person's fixations before a pack are known with their durations."""
        if not trial.scanpath.fixations:
            return np.zeros(len(trial.scanpath.packs))
        batch, terms = self._pass([trial])
        words = words_of(trial.scanpath.words, trial.timing)
        drawn = sample_sizes(self.decoder, trial.scanpath, words, batch, terms, view=self._view(self.hear(trial)))
        table = size_probabilities(drawn)
        return np.log(table[np.arange(len(table)), size_classes(trial.scanpath.sizes)])

    def _view(self, heard: Understanding) -> Tensor | None:
        if heard.coarse is None or heard.fine is None:
            return None
        return view(self.decoder, heard.coarse, heard.fine, heard.image_size)

    def _scene(self, heard: Understanding, trial: Trial) -> Scene:
        return draw_scene(self.decoder, heard)

    def _pass(self, trials: Sequence[Trial]) -> tuple[EventBatch, TokenTerms]:
        heard, count = self.hear(trials[0]), len(trials)
        states = None if heard.states is None else heard.states.expand(count, -1, -1)
        rows = [write_tokens(trial.scanpath, trial.timing) for trial in trials]
        batch = collate(rows, [heard.beliefs[0]] * count, states=states)
        scene = self._scene(heard, trials[0]).of(torch.zeros(count, dtype=torch.long))
        return batch, token_terms(self.decoder, batch, scene=scene)


class EventLook(_DecoderLook):
    """Our decoder without its language model: the target's box stands for what that would have understood."""

    name = "event decoder, target given"

    def __init__(
        self, decoder: EventDecoder | None = None, *, config: RecordedConfig | None = None, landing: Landing = "soft"
    ) -> None:
        self._decoder, self._config, self.landing = decoder, config, landing

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

    def hear(self, case: Trial) -> Understanding:
        packs = len(case.scanpath.packs)
        return Understanding(
            states=None,
            beliefs=box_map(case.target, self.decoder.config.grid).expand(1, packs, -1, -1),
            coarse=None,
            fine=None,
            known=torch.ones(1, packs, dtype=torch.bool),
            image_size=(case.scanpath.width, case.scanpath.height),
        )


class StoredLook(_DecoderLook):
    """A trained decoder on what a store says of its cases; it learns nothing more."""

    def __init__(
        self, name: str, decoder: EventDecoder, store: Store, beliefs: Beliefs = "model", landing: Landing = "soft"
    ) -> None:
        self.name, self._decoder, self._store, self._beliefs, self.landing = name, decoder, store, beliefs, landing
        self._last: tuple[str, Understanding, Scene] | None = None

    @property
    def decoder(self) -> EventDecoder:
        return self._decoder

    def fit(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def hear(self, case: Trial) -> Understanding:
        return self._known(case)[1]

    def pack_size_log_prob(self, trial: Trial) -> None:
        """Counting them takes long; the table counts those of samples, as for everybody."""
        return None

    def _scene(self, heard: Understanding, trial: Trial) -> Scene:
        return self._known(trial)[2]

    def _known(self, case: Trial) -> tuple[str, Understanding, Scene]:
        """Trials of one case come one after the other."""
        if self._last is None or self._last[0] != case.case:
            heard = self._store.understanding(torch.tensor([self._store.find(case.case)]), self._beliefs)
            if not self._decoder.config.state_width:
                heard = heard.unheard()
            with torch.no_grad():
                self._last = (case.case, heard, draw_scene(self._decoder, heard))
        return self._last


class PixelLook(_DecoderLook):
    """A whole trained model that sees the pictures and hears the words; nothing is told, and it learns nothing more."""

    name = "the model, pixels only"

    def __init__(self, model: ScanpathModel, folder: Path, landing: Landing = "soft") -> None:
        self._model, self._folder, self.landing = model, folder, landing
        self._last: tuple[str, Understanding] | None = None

    @property
    def decoder(self) -> EventDecoder:
        return self._model.decoder

    def fit(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def pack_size_log_prob(self, trial: Trial) -> None:
        """As of StoredLook."""
        return None

    @torch.no_grad()
    def hear(self, case: Trial) -> Understanding:
        if self._last is None or self._last[0] != case.case:
            frames = open_media(self._folder / case.scanpath.image).frames([0])
            heard = vars(self._model.understand([frames], [case.scanpath.words]))
            here = {name: to_device(value, self.decoder.prior.device) for name, value in heard.items()}
            self._last = (case.case, Understanding(**here))
        return self._last[1]
