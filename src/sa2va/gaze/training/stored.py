"""Train the event decoder on a store: a frozen Sa2VA has been asked before, so that a step is the decoder's alone.

Flow: (seed, step) -> some expressions, some people of each -> StoredBatch -> losses -> training/loop.py.
Shapes: B expressions of a batch, V people of each, P packs, C cells of the canvas.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import EventBatch
from sa2va.gaze.model.losses import EventLossConfig, predictive, token_terms
from sa2va.gaze.model.scanpath_model import Understanding, draw_scene, gaze_losses
from sa2va.gaze.training.simulated import Beliefs
from sa2va.gaze.training.store import Store
from sa2va.training.batches import to_device
from sa2va.training.stage import StageConfig

KEPT_BACK = 0.02  # share of the expressions that validation looks at and training does not
WINDOWS = 8  # parts of a round; within one, expressions are sorted by their length
FIRST = (0.05, 0.95)  # quantiles of people's first start


@dataclass(frozen=True)
class StoredBatch:
    """B expressions that were heard, and B * V people who looked."""

    heard: Understanding
    owner: Tensor  # (B * V,)
    events: EventBatch
    crowd: Tensor  # (B, P, C)

    def to(self, device: torch.device | str) -> Self:
        heard = {name: to_device(value, torch.device(device)) for name, value in vars(self.heard).items()}
        return replace(
            self,
            heard=Understanding(**heard),
            owner=self.owner.to(device),
            events=self.events.to(device),
            crowd=self.crowd.to(device),
        )


class StoredStage:
    """Stage of the training loop."""

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
        self.config, self.decoder, self.store, self.beliefs, self._losses = config, decoder, store, beliefs, losses
        self.num_people = min(num_people, store.config.num_people)
        self.num_learned = max(1, len(store) - math.ceil(len(store) * kept_back))
        tokens = store.gaze.events.valid.sum(1).view(len(store), -1)
        self._lengths = tokens.max(1).values.numpy()  # of each expression
        starts = store.gaze.events.target[:, 0, 2]
        decoder.first_start.copy_(torch.quantile(starts[: 1000 * store.config.num_people], torch.tensor(FIRST)))

    def module(self) -> nn.Module:
        return self.decoder

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.decoder.parameters()

    def batch(self, step: int) -> StoredBatch:
        """Take the next expressions of a shuffled round, and some of the people of each."""
        size = max(1, self.config.batch_size // self.num_people)
        places = np.arange(step * size, (step + 1) * size)
        rounds = {int(place) // self.num_learned for place in places}
        orders = {turn: self._order(turn) for turn in rounds}
        index = [int(orders[int(place) // self.num_learned][int(place) % self.num_learned]) for place in places]
        rng = np.random.default_rng([self.config.seed, step])
        people = [rng.choice(self.store.config.num_people, self.num_people, replace=False) for _ in index]
        return self.take(torch.tensor(index), torch.from_numpy(np.stack(people)))

    def take(self, index: Tensor, people: Tensor) -> StoredBatch:
        """Put expressions (B,) and their people (B, V) together."""
        heard = self.store.understanding(index, self.beliefs)
        return StoredBatch(
            heard=heard,
            owner=torch.arange(len(index)).repeat_interleave(people.shape[1]),
            events=self.store.scanpaths(index, people, heard),
            crowd=self.store.gaze.crowd[index, : heard.beliefs.shape[1]].float(),
        )

    def _order(self, turn: int) -> np.ndarray:
        """Shuffle, but keep expressions with about as many tokens together: blanks cost as much as tokens."""
        rng = np.random.default_rng([self.config.seed, 1, turn])
        order = rng.permutation(self.num_learned)
        windows = [row[np.argsort(self._lengths[row], kind="stable")] for row in np.array_split(order, WINDOWS)]
        size = max(1, self.config.batch_size // self.num_people)
        chunks = [row[place : place + size] for row in windows for place in range(0, len(row), size)]
        return np.concatenate([chunks[number] for number in rng.permutation(len(chunks))])

    def losses(self, batch: StoredBatch) -> dict[str, Tensor]:
        return gaze_losses(self.decoder, batch.heard, batch.owner, batch.events, crowd=batch.crowd, config=self._losses)

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float] | None:
        """Bits per fixation on expressions that were kept back, above an even canvas."""
        del step
        device = self.decoder.prior.device
        logs = []
        for row in torch.arange(self.num_learned, len(self.store)).split(8):
            batch = self.take(row, torch.arange(self.num_people).expand(len(row), -1)).to(device)
            scene = draw_scene(self.decoder, batch.heard).of(batch.owner)
            density = predictive(token_terms(self.decoder, batch.events, scene=scene), self.decoder)
            logs.append(density[batch.events.looks])
        if not logs:
            return None
        return {"bits": float((torch.cat(logs).mean() + math.log(CANVAS[0] * CANVAS[1])) / math.log(2))}
