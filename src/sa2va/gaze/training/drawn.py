"""Train the event decoder on a frozen Sa2VA with the gaze of the drawn world, which has no end.

Flow: (seed, step) -> DrawnSource -> DrawnBatch (pictures, words, what they leave possible, scanpaths) -> DrawnStage:
    one pass of the language model per expression, shared by all its people -> losses -> training/loop.py.
Shapes: B expressions of a batch, V scanpaths of them, P packs, M objects, S side of the picture in px.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.gaze.datasets.world import NUM_PEOPLE, Viewing, make_viewing
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.maps import fixation_map
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import EventBatch, collate, write_tokens
from sa2va.gaze.model.listening import canvas_maps
from sa2va.gaze.model.losses import EventLossConfig
from sa2va.gaze.model.scanpath_model import ScanpathModel, Understanding
from sa2va.gaze.trial import on_canvas
from sa2va.training.config import StageConfig
from sa2va.types import Frames

Beliefs = Literal["model", "possible", "target"]
CROWD_SIGMA = 9.0  # px, blur of the map of all people, as in the metrics


@dataclass(frozen=True)
class DrawnBatch:
    """B expressions about drawn scenes, and V people who looked."""

    frames: tuple[Frames, ...]  # B, each (1, S, S, 3)
    words: tuple[tuple[str, ...], ...]  # B
    possible: Tensor  # (B, P, S, S) 0..1, what the words so far may mean, visible pixels
    target: Tensor  # (B, S, S) bool
    crowd: Tensor  # (B, P, C) where its people look in each pack, rows of sum 1 or 0
    owner: Tensor  # (V,) expression of each scanpath
    events: EventBatch  # V scanpaths, without beliefs and states

    def to(self, device: torch.device | str) -> Self:
        names = ("possible", "target", "crowd", "owner", "events")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class DrawnSource:
    """Build the batch of a step: a pure function of seed and step."""

    seed: int
    grid: Grid
    num_cases: int  # B
    num_people: int  # of each expression

    def __call__(self, step: int) -> DrawnBatch:
        cases = [self._case(step * self.num_cases + number) for number in range(self.num_cases)]
        packs = max(len(people[0].case.expression.words) for people in cases) + 2
        everyone = [viewing for people in cases for viewing in people]
        trials = [on_canvas(viewing.trial) for viewing in everyone]
        blank = torch.zeros(packs, *self.grid.shape)
        return DrawnBatch(
            frames=tuple(people[0].case.frame[None] for people in cases),
            words=tuple(people[0].case.expression.words for people in cases),
            possible=torch.stack([_possible(people[0], packs) for people in cases]),
            target=torch.stack([torch.from_numpy(people[0].case.masks[people[0].case.target]) for people in cases]),
            crowd=torch.stack([self._crowd(people, packs) for people in cases]),
            owner=torch.arange(self.num_cases).repeat_interleave(self.num_people),
            events=collate([write_tokens(trial.scanpath, trial.timing) for trial in trials], [blank] * len(trials)),
        )

    def _case(self, index: int) -> list[Viewing]:
        rng = np.random.default_rng([self.seed, index])
        people = rng.choice(NUM_PEOPLE, self.num_people, replace=False)
        return [make_viewing(self.seed, "train", index, int(person)) for person in people]

    def _crowd(self, people: list[Viewing], packs: int) -> Tensor:
        """Where the people of one expression look in each pack, blurred, on the cells of the canvas: (P, C)."""
        rows = torch.zeros(packs, self.grid.num_cells)
        paths = [on_canvas(viewing.trial).scanpath for viewing in people]
        for pack in range(len(paths[0].packs)):
            points = np.concatenate([path.packs[pack].points for path in paths])
            if len(points):
                counts = torch.from_numpy(fixation_map(points, *CANVAS, counts=True)).float()
                rows[pack] = _blur(counts, self.grid)
        return rows


def _blur(counts: Tensor, grid: Grid) -> Tensor:
    """Blur a map of counts (H, W) and sum it over cells: (C,) of sum 1."""
    reach = int(3 * CROWD_SIGMA)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * CROWD_SIGMA**2))
    wide = F.conv2d(counts[None, None], kernel[None, None, None] / kernel.sum(), padding=(0, reach))
    smooth = F.conv2d(wide, kernel[None, None, :, None] / kernel.sum(), padding=(reach, 0))
    cells = F.avg_pool2d(smooth, grid.cell).flatten()
    return cells / cells.sum()


def _possible(viewing: Viewing, packs: int) -> Tensor:
    """What the words so far may mean, at half the picture's size: (P, S / 2, S / 2)."""
    case = viewing.case
    flags = torch.from_numpy(case.view.possible).float()  # (N + 1, M)
    masks = F.avg_pool2d(torch.from_numpy(case.masks).float()[:, None], 2)[:, 0]
    maps = (flags @ masks.flatten(1)).clamp(max=1).view(-1, *masks.shape[1:])
    return torch.cat([maps, maps[-1:].expand(packs - len(maps), -1, -1)])


class DrawnStage:
    """Stage of the training loop; Sa2VA stays as it is."""

    def __init__(
        self,
        config: StageConfig,
        model: ScanpathModel,
        *,
        num_people: int,
        beliefs: Beliefs = "model",
        losses: EventLossConfig | None = None,
    ) -> None:
        self.config, self.model, self.beliefs, self._losses = config, model, beliefs, losses
        model.sa2va.requires_grad_(False)
        cases = max(1, config.batch_size // num_people)
        self.batch = DrawnSource(config.seed, model.decoder.config.grid, cases, num_people)

    def module(self) -> nn.Module:
        return self.model.decoder

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.decoder.parameters()

    def losses(self, batch: DrawnBatch) -> dict[str, Tensor]:
        heard = self.understand(batch)
        events = replace(batch.events, beliefs=heard.beliefs[batch.owner], states=heard.states[batch.owner])
        return self.model.losses(heard, batch.owner, events, crowd=batch.crowd, config=self._losses)

    @torch.no_grad()
    def understand(self, batch: DrawnBatch) -> Understanding:
        """Hear the expressions; where the model's own masks are not wanted, take what is known of the scene."""
        self.model.sa2va.eval()
        heard = self.model.understand(batch.frames, batch.words)
        if self.beliefs == "model":
            return heard
        side = batch.target.shape[-1]
        wanted = batch.possible if self.beliefs == "possible" else batch.target[:, None].float()
        maps = canvas_maps(wanted, (side, side), self.model.decoder.config.grid)
        return replace(heard, beliefs=maps.expand_as(heard.beliefs))
