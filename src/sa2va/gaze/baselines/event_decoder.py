"""Evaluate the event decoder as a baseline: on a given target box, on a stored grounding, or on pixels.

Flow: a case -> Grounding -> Rollout -> Scanpaths; a trial -> one causal pass -> log densities.
Shapes: K fixations of a trial, N words, P = N + 2 packs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.sizes import size_classes, size_probabilities
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import EventBatch, collate, pack_words, write_tokens
from sa2va.gaze.model.losses import TokenTerms, predictive_log_density, token_terms
from sa2va.gaze.model.oracle import box_map
from sa2va.gaze.model.rollout import LastFixation, Rollout
from sa2va.gaze.model.scanpath_model import Grounding, ScanpathModel, build_scene_maps, image_maps_of
from sa2va.gaze.model.scene_maps import SceneMaps
from sa2va.gaze.model.sizes import sample_sizes
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.training.recorded import RecordedConfig, train_recorded
from sa2va.gaze.training.simulated import Beliefs
from sa2va.gaze.training.store import Store
from sa2va.gaze.trial import Trial
from sa2va.media.source import open_media
from sa2va.model.batch import move


class _DecoderBaseline(ABC):
    """An event decoder with a source of groundings."""

    name: str
    last_fixation: LastFixation = "soft"

    @property
    @abstractmethod
    def decoder(self) -> EventDecoder:
        """The event decoder in eval mode."""

    @abstractmethod
    def ground(self, case: Trial) -> Grounding:
        """Return the grounding of a case, B = 1."""

    @torch.no_grad()
    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        grounding, words = self.ground(case), case.scanpath.words
        rollout = Rollout(
            self.decoder,
            num_samples=num_samples,
            seed=seed,
            last_fixation=self.last_fixation,
            image_maps=image_maps_of(self.decoder, grounding),
        )
        rows: list[list[Fixation]] = [[] for _ in range(num_samples)]
        indices: list[list[int]] = [[] for _ in range(num_samples)]
        for pack, word in enumerate(pack_words(words, case.timing)):
            state = None if grounding.states is None else grounding.states[0, pack]
            for row, index, new in zip(
                rows, indices, rollout.run_pack(word, grounding.beliefs[0, pack], state), strict=True
            ):
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
        """Compute `log_density` for several trials of one case in one pass."""
        seen = [trial for trial in trials if trial.scanpath.fixations]
        if not seen:
            return [np.zeros(0) for _ in trials]
        batch, terms = self._pass(seen)
        logs = predictive_log_density(terms, self.decoder)
        rows = iter([row[looks].double().numpy() for row, looks in zip(logs, batch.looks, strict=True)])
        return [next(rows) if trial.scanpath.fixations else np.zeros(0) for trial in trials]

    @torch.no_grad()
    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64] | None:
        """Estimate size probabilities by Monte Carlo, given the earlier fixations and their durations."""
        if not trial.scanpath.fixations:
            return np.zeros(len(trial.scanpath.packs))
        batch, terms = self._pass([trial])
        words = pack_words(trial.scanpath.words, trial.timing)
        drawn = sample_sizes(
            self.decoder,
            trial.scanpath,
            words,
            batch,
            terms,
            image_maps=image_maps_of(self.decoder, self.ground(trial)),
        )
        table = size_probabilities(drawn)
        return np.log(table[np.arange(len(table)), size_classes(trial.scanpath.sizes)])

    def _scene(self, grounding: Grounding, trial: Trial) -> SceneMaps:
        return build_scene_maps(self.decoder, grounding)

    def _pass(self, trials: Sequence[Trial]) -> tuple[EventBatch, TokenTerms]:
        grounding, count = self.ground(trials[0]), len(trials)
        states = None if grounding.states is None else grounding.states.expand(count, -1, -1)
        rows = [write_tokens(trial.scanpath, trial.timing) for trial in trials]
        batch = collate(rows, [grounding.beliefs[0]] * count, states=states)
        scene = self._scene(grounding, trials[0]).of(torch.zeros(count, dtype=torch.long))
        return batch, token_terms(self.decoder, batch, scene=scene)


class EventBaseline(_DecoderBaseline):
    """Our decoder without Sa2VA: the given target box replaces the belief maps."""

    name = "event decoder, target given"

    def __init__(
        self,
        decoder: EventDecoder | None = None,
        *,
        config: RecordedConfig | None = None,
        last_fixation: LastFixation = "soft",
    ) -> None:
        self._decoder, self._config, self.last_fixation = decoder, config, last_fixation

    @property
    def decoder(self) -> EventDecoder:
        """The trained decoder.

        Raises:
            ValueError: `fit` has not been called.
        """
        if self._decoder is None:
            raise ValueError(f"{self.name}: not trained yet; call fit first")
        return self._decoder

    def fit(self, trials: Sequence[Trial]) -> None:
        """Train a new decoder."""
        self._decoder = train_recorded(trials, self._config)

    def ground(self, case: Trial) -> Grounding:
        packs = len(case.scanpath.packs)
        return Grounding(
            states=None,
            beliefs=box_map(case.target, self.decoder.config.grid).expand(1, packs, -1, -1),
            coarse=None,
            fine=None,
            known=torch.ones(1, packs, dtype=torch.bool),
            image_size=(case.scanpath.width, case.scanpath.height),
        )


class StoredBaseline(_DecoderBaseline):
    """A trained decoder on the groundings of a store."""

    def __init__(
        self,
        name: str,
        decoder: EventDecoder,
        store: Store,
        beliefs: Beliefs = "model",
        last_fixation: LastFixation = "soft",
    ) -> None:
        self.name, self._decoder, self.last_fixation = name, decoder, last_fixation
        self._store, self._beliefs = store, beliefs
        self._last: tuple[str, Grounding, SceneMaps] | None = None

    @property
    def decoder(self) -> EventDecoder:
        return self._decoder

    def fit(self, trials: Sequence[Trial]) -> None:
        """Do nothing: the decoder is already trained."""

    def ground(self, case: Trial) -> Grounding:
        return self._read(case)[1]

    def pack_size_log_prob(self, trial: Trial) -> None:
        """Return None: the Monte Carlo estimate is slow. The table estimates sizes of all rows from samples anyway."""
        return None

    def _scene(self, grounding: Grounding, trial: Trial) -> SceneMaps:
        return self._read(trial)[2]

    def _read(self, case: Trial) -> tuple[str, Grounding, SceneMaps]:
        """Read a case from the store, keeping the last one: trials arrive case by case."""
        if self._last is None or self._last[0] != case.case:
            grounding = self._store.grounding(torch.tensor([self._store.find(case.case)]), self._beliefs)
            if not self._decoder.config.state_width:
                grounding = grounding.beliefs_only()
            with torch.no_grad():
                self._last = (case.case, grounding, build_scene_maps(self._decoder, grounding))
        return self._last


class PixelBaseline(_DecoderBaseline):
    """The whole trained model on images and words, without any given target."""

    name = "the model, pixels only"

    def __init__(self, model: ScanpathModel, folder: Path, last_fixation: LastFixation = "soft") -> None:
        self._model, self._folder, self.last_fixation = model, folder, last_fixation
        self._last: tuple[str, Grounding] | None = None

    @property
    def decoder(self) -> EventDecoder:
        return self._model.decoder

    def fit(self, trials: Sequence[Trial]) -> None:
        """Do nothing: the model is already trained."""

    def pack_size_log_prob(self, trial: Trial) -> None:
        """Return None, as `StoredBaseline` does."""
        return None

    @torch.no_grad()
    def ground(self, case: Trial) -> Grounding:
        if self._last is None or self._last[0] != case.case:
            frames = open_media(self._folder / case.scanpath.image).frames([0])
            grounding = self._model.ground([frames], [case.scanpath.words])
            self._last = (case.case, move(grounding, self.decoder.prior.device))
        return self._last[1]
