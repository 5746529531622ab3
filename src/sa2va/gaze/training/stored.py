"""Train the event decoder on a store of precomputed groundings, without running Sa2VA.

Flow: (seed, step) -> some expressions, some observers of each -> StoredBatch -> losses -> training/trainer.py.
Shapes: B expressions of a batch, V observers of each, P packs, C cells of the canvas.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import EventBatch
from sa2va.gaze.model.losses import EventLossConfig, predictive_log_density, token_terms
from sa2va.gaze.model.scanpath_model import Grounding, build_scene_maps, gaze_losses
from sa2va.gaze.training.simulated import Beliefs
from sa2va.gaze.training.store import Store
from sa2va.model.batch import move
from sa2va.model.losses import LossTerm
from sa2va.training.stage import Key, StageConfig

KEPT_BACK = 0.02  # share of the expressions held out for validation
WINDOWS = 8  # parts of an epoch within which expressions are sorted by length
FIRST = (0.05, 0.95)  # quantiles of first-fixation onsets


@dataclass(frozen=True)
class StoredBatch:
    """Groundings of B expressions, and the scanpaths of V observers of each."""

    heard: Grounding
    owner: Tensor  # (B * V,)
    events: EventBatch
    crowd: Tensor  # (B, P, C)


@dataclass(frozen=True)
class StoredData:
    """Data of the stage: expressions of a store in shuffled epochs, with some observers of each.

    A key is the index of an expression and those of its observers.
    """

    store: Store
    seed: int
    num_cases: int  # expressions of a batch
    num_people: int  # observers of each
    num_learned: int  # size of the training set, the first expressions of the store
    beliefs: Beliefs

    def keys(self, step: int) -> list[Key]:
        places = range(step * self.num_cases, (step + 1) * self.num_cases)
        orders = {turn: self.order(turn) for turn in {place // self.num_learned for place in places}}
        index = [int(orders[place // self.num_learned][place % self.num_learned]) for place in places]
        rng = np.random.default_rng([self.seed, step])
        everyone = self.store.config.num_people
        return [(case, *rng.choice(everyone, self.num_people, replace=False).tolist()) for case in index]

    def order(self, turn: int) -> np.ndarray:
        """Return the permutation of an epoch, with batches of similar token counts to reduce padding."""
        rng = np.random.default_rng([self.seed, 1, turn])
        order = rng.permutation(self.num_learned)
        windows = [row[np.argsort(self.lengths[row], kind="stable")] for row in np.array_split(order, WINDOWS)]
        size = self.num_cases
        chunks = [row[place : place + size] for row in windows for place in range(0, len(row), size)]
        return np.concatenate([chunks[number] for number in rng.permutation(len(chunks))])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Largest number of tokens over the observers of each expression."""
        return self.store.gaze.events.valid.sum(1).view(len(self.store), -1).max(1).values.numpy()

    def __getitem__(self, key: Key) -> list[int]:
        return [int(number) for number in key]

    def collate(self, items: Sequence[Sequence[int]]) -> StoredBatch:
        numbers = torch.tensor(items)
        return self.take(numbers[:, 0], numbers[:, 1:])

    def take(self, index: Tensor, people: Tensor) -> StoredBatch:
        """Build the batch of expressions (B,) and their observers (B, V)."""
        heard = self.store.grounding(index, self.beliefs)
        return StoredBatch(
            heard=heard,
            owner=torch.arange(len(index)).repeat_interleave(people.shape[1]),
            events=self.store.scanpaths(index, people, heard),
            crowd=self.store.gaze.crowd[index, : heard.beliefs.shape[1]].float(),
        )

    def __len__(self) -> int:
        return self.num_learned


class StoredModule(nn.Module):
    """Event decoder with its losses on a store."""

    def __init__(self, decoder: EventDecoder, losses: EventLossConfig | None) -> None:
        super().__init__()
        self.decoder, self._losses = decoder, losses

    def forward(self, batch: StoredBatch) -> dict[str, LossTerm]:
        return gaze_losses(self.decoder, batch.heard, batch.owner, batch.events, crowd=batch.crowd, config=self._losses)


class StoredStage:
    """Stage that trains the decoder on a store; some expressions are held out for validation."""

    def __init__(
        self,
        config: StageConfig,
        decoder: EventDecoder,
        store: Store,
        *,
        num_people: int,
        beliefs: Beliefs = "model",
        losses: EventLossConfig | None = None,
        kept_back: float = KEPT_BACK,
    ) -> None:
        self.config, self.decoder, self.module = config, decoder, StoredModule(decoder, losses)
        num_people = min(num_people, store.config.num_people)
        self.data = StoredData(
            store=store,
            seed=config.seed,
            num_cases=max(1, config.batch_size // num_people),
            num_people=num_people,
            num_learned=max(1, len(store) - math.ceil(len(store) * kept_back)),
            beliefs=beliefs,
        )
        starts = store.gaze.events.target[:, 0, 2]
        decoder.first_start.copy_(torch.quantile(starts[: 1000 * store.config.num_people], torch.tensor(FIRST)))

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float] | None:
        """Return the bits per fixation above a uniform density, on the held-out expressions."""
        del step
        data, device = self.data, self.decoder.prior.device
        logs = []
        for row in torch.arange(data.num_learned, len(data.store)).split(8):
            batch = move(data.take(row, torch.arange(data.num_people).expand(len(row), -1)), device)
            scene = build_scene_maps(self.decoder, batch.heard).of(batch.owner)
            density = predictive_log_density(token_terms(self.decoder, batch.events, scene=scene), self.decoder)
            logs.append(density[batch.events.looks])
        if not logs:
            return None
        return {"bits": float((torch.cat(logs).mean() + math.log(CANVAS[0] * CANVAS[1])) / math.log(2))}
