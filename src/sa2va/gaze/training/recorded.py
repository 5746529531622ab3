"""Train an event decoder on recorded scanpaths, from the target box and without an image.

Flow: trials on the canvas -> Recording (tokens and belief maps, built once) -> RecordedStage -> training/trainer.py
    -> EventDecoder.
Shapes: B scanpaths of a batch, P packs, g h g w grid of cells on the canvas.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.decoder import DecoderConfig, EventDecoder
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import FACT, EventBatch, collate, write_tokens
from sa2va.gaze.model.losses import EventLossConfig, event_losses, token_terms
from sa2va.gaze.model.oracle import box_map
from sa2va.gaze.trial import Trial
from sa2va.model.losses import LossTerm
from sa2va.model.torch_defaults import plain_defaults
from sa2va.training.logger import RunLogger
from sa2va.training.seeding import seeded
from sa2va.training.stage import Key, StageConfig
from sa2va.training.trainer import fit_stage, run_stage

UNCLOCKED = 0.1  # share of scanpaths without word timing, so that the decoder learns to end a pack with a token


@dataclass(frozen=True, kw_only=True)
class RecordedConfig:
    """Settings of training a decoder on recordings."""

    decoder: DecoderConfig = field(default_factory=lambda: DecoderConfig(width=48, place_width=24, num_observers=2))
    stage: StageConfig = field(
        default_factory=lambda: StageConfig(
            name="recorded", steps=240, batch_size=32, lr=3e-3, warmup_steps=20, weight_decay=0.05, autocast=False,
            save_every=0, num_workers=0, ema=0.98,
        )
    )  # fmt: skip
    losses: EventLossConfig = field(default_factory=EventLossConfig)


@dataclass(frozen=True)
class Recording:
    """Training tokens of one scanpath, with and without word timing, and its belief maps."""

    tokens: list[dict[str, Any]]
    unclocked: list[dict[str, Any]]
    belief: Tensor  # (P, g h, g w)


def read_recordings(trials: Sequence[Trial], grid: Grid) -> list[Recording]:
    """Tokenize trials on the canvas; scanpaths without a fixation are left out.

    Raises:
        ValueError: a target box exceeds the canvas, or no trial has a fixation.
    """
    seen = [trial for trial in trials if trial.scanpath.fixations]
    if not seen:
        raise ValueError(f"{len(trials)} trials have no fixation; expected at least one to train on")
    return [
        Recording(
            write_tokens(trial.scanpath, trial.timing),
            write_tokens(trial.scanpath, trial.timing, clocked=False),
            box_map(trial.target, grid).expand(len(trial.scanpath.packs), -1, -1),
        )
        for trial in seen
    ]


@dataclass(frozen=True)
class RecordedData:
    """Data of the stage: recordings in shuffled epochs, half of them mirrored horizontally.

    Mirroring is valid, since no input distinguishes left from right. A key is the index of a recording, whether its
    word timing is hidden, and whether it is mirrored.
    """

    recordings: Sequence[Recording]
    seed: int
    batch_size: int

    def keys(self, step: int) -> list[Key]:
        size, number = self.batch_size, len(self.recordings)
        rng = np.random.default_rng([self.seed, step])
        places = range(step * size, (step + 1) * size)
        orders = {turn: self.order(turn) for turn in {place // number for place in places}}
        hidden, mirrored = rng.random(size) < UNCLOCKED, rng.random(size) < 0.5
        rows = (int(orders[place // number][place % number]) for place in places)
        return list(zip(rows, map(int, hidden), map(int, mirrored), strict=True))

    def order(self, turn: int) -> np.ndarray:
        """Return the permutation of the recordings in one epoch."""
        return np.random.default_rng([self.seed, 1, turn]).permutation(len(self.recordings))

    def __getitem__(self, key: Key) -> tuple[list[dict[str, Any]], Tensor, bool]:
        row, hidden, mirrored = map(int, key)
        one = self.recordings[row]
        return one.unclocked if hidden else one.tokens, one.belief, bool(mirrored)

    def collate(self, items: Sequence[tuple[list[dict[str, Any]], Tensor, bool]]) -> EventBatch:
        rows, beliefs, mirrored = zip(*items, strict=True)
        return mirror(collate(rows, beliefs), torch.tensor(mirrored))

    def __len__(self) -> int:
        return len(self.recordings)


class RecordedModule(nn.Module):
    """Event decoder with its losses on recordings."""

    def __init__(self, decoder: EventDecoder, losses: EventLossConfig) -> None:
        super().__init__()
        self.decoder, self._losses = decoder, losses

    def forward(self, batch: EventBatch) -> dict[str, LossTerm]:
        return event_losses(token_terms(self.decoder, batch), self.decoder, batch, self._losses)


class RecordedStage:
    """Stage that trains a decoder on recordings."""

    def __init__(self, config: RecordedConfig, decoder: EventDecoder, recordings: Sequence[Recording]) -> None:
        self.config = config.stage
        self.module = RecordedModule(decoder, config.losses)
        self.data = RecordedData(recordings, config.stage.seed, config.stage.batch_size)

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()


def mirror(batch: EventBatch, flipped: Tensor) -> EventBatch:
    """Mirror the rows selected by `flipped` (B,) horizontally."""
    facts, target = batch.facts.clone(), batch.target.clone()
    for name in ("x", "last_x"):
        facts[flipped, :, FACT[name]] = CANVAS[0] - facts[flipped, :, FACT[name]]
    target[flipped, :, 0] = CANVAS[0] - target[flipped, :, 0]
    beliefs = torch.where(flipped[:, None, None, None], batch.beliefs.flip(-1), batch.beliefs)
    return replace(batch, facts=facts, target=target, beliefs=beliefs)


def measure_start(trials: Sequence[Trial]) -> tuple[float, float]:
    """Return the 5th and 95th percentile of first-fixation onsets, ms."""
    starts = [trial.scanpath.fixations[0].start for trial in trials if trial.scanpath.fixations]
    low, high = np.quantile(starts, (0.05, 0.95)).tolist()
    return low, high


@plain_defaults()
def train_recorded(
    trials: Sequence[Trial], config: RecordedConfig | None = None, *, folder: Path | None = None, quiet: bool = True
) -> EventDecoder:
    """Train a decoder on trials on the canvas.

    Args:
        trials: recorded trials.
        config: settings; None = the defaults.
        folder: folder of the run, from which an interrupted run resumes; None saves nothing.
        quiet: print no progress.

    Raises:
        ValueError: no trial has a fixation, or a state in the folder belongs to another run.
    """
    config = config or RecordedConfig()
    with seeded(config.stage.seed):
        decoder = EventDecoder(config.decoder)
    decoder.first_start.copy_(torch.tensor(measure_start(trials)))
    stage = RecordedStage(config, decoder, read_recordings(trials, config.decoder.grid))
    if folder is None:
        fit_stage(stage)
    else:
        with seeded(config.stage.seed), RunLogger(folder, quiet=quiet) as logger:
            run_stage(stage, folder, "cpu", logger)
    return decoder.eval()
