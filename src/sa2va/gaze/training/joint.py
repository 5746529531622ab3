"""Train the gaze decoder together with a LoRA adapter of the language model; image encoders stay frozen.

Flow: (seed, step) -> JointData -> pictures, words, oracle beliefs, scanpaths -> one pass of the language model per
    expression, with gradients -> gaze losses and prefix masks -> training/trainer.py -> decoder and adapter.
    No grounding can be stored, since the adapter changes with every step.
Source: LoRA, arXiv:2106.09685, as implemented in peft.
Shapes: B expressions of a batch, V observers of each, P packs, M objects, S side of the picture in px.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.losses import EventLossConfig
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.simulator.dataset import Viewing
from sa2va.gaze.training.simulated import DrawnGaze, draw_gaze, draw_viewings, possible_maps
from sa2va.gaze.training.store import StoreConfig
from sa2va.model.losses import LossTerm
from sa2va.training.lora import add_lora, save_adapter
from sa2va.training.stage import Key, StageConfig
from sa2va.types import Frames


@dataclass(frozen=True)
class JointBatch:
    """B expressions on synthetic scenes, with V simulated observers each."""

    frames: tuple[Frames, ...]  # B, each (1, S, S, 3)
    words: tuple[tuple[str, ...], ...]  # B
    gaze: DrawnGaze
    possible: Tensor  # (B, P, S / 2, S / 2) 0..1, masks of the objects still possible after the words of each pack
    owner: Tensor  # (B * V,)


@dataclass(frozen=True)
class JointData:
    """Data of the stage: expressions in order, each with some of its observers. A key is an expression's index."""

    world: StoreConfig
    grid: Grid
    num_cases: int  # B
    num_people: int  # V

    def keys(self, step: int) -> list[Key]:
        return [((step * self.num_cases + number) % self.world.num_cases,) for number in range(self.num_cases)]

    def __getitem__(self, key: Key) -> list[Viewing]:
        return draw_viewings(self.world.seed, self.world.split, int(key[0]), self.num_people)

    def collate(self, items: Sequence[list[Viewing]]) -> JointBatch:
        cases = [group[0].case for group in items]
        gaze = draw_gaze(items, self.grid)
        packs = gaze.known.shape[1]
        maps = [possible_maps(c, F.avg_pool2d(torch.from_numpy(c.masks).float()[:, None], 2)[:, 0]) for c in cases]
        return JointBatch(
            frames=tuple(case.frame[None] for case in cases),
            words=tuple(case.expression.words for case in cases),
            gaze=gaze,
            possible=torch.stack([torch.cat([m, m[-1:].expand(packs - len(m), -1, -1)]) for m in maps]),
            owner=torch.arange(len(cases)).repeat_interleave(self.num_people),
        )

    def __len__(self) -> int:
        return self.world.num_cases


class JointModule(nn.Module):
    """Word grounding and gaze decoder with their losses; the forward pass is that of prediction."""

    def __init__(self, model: ScanpathModel, losses: EventLossConfig | None, prefix_weight: float) -> None:
        super().__init__()
        self.model, self._losses, self._prefix_weight = model, losses, prefix_weight

    def forward(self, batch: JointBatch) -> dict[str, LossTerm]:
        self.model.sa2va.eval()
        heard = self.model.ground(batch.frames, batch.words)
        assert heard.mask_logits is not None and heard.states is not None
        targets = F.interpolate(batch.possible, heard.mask_logits.shape[-2:], mode="area")
        events = replace(
            batch.gaze.events,
            beliefs=heard.beliefs[batch.owner],
            states=heard.states[batch.owner],
            cover=batch.gaze.target[batch.owner],
        )
        return self.model.losses(
            heard, batch.owner, events, targets=targets, crowd=batch.gaze.crowd, config=self._losses,
            prefix_weight=self._prefix_weight,
        )  # fmt: skip


class JointStage:
    """Stage that trains the decoder and a LoRA adapter; saved states hold only these two."""

    def __init__(
        self,
        config: StageConfig,
        model: ScanpathModel,
        world: StoreConfig,
        *,
        num_people: int,
        rank: int,
        losses: EventLossConfig | None = None,
        prefix_weight: float = 0.5,
    ) -> None:
        self.config = config
        add_lora(model.sa2va, rank)
        self.module = JointModule(model, losses, prefix_weight)
        cases = max(1, config.batch_size // num_people)
        self.data = JointData(world, model.decoder.config.grid, cases, num_people)

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's format, for `sa2va.load(..., adapter=folder)`."""
        save_adapter(self.module.model.sa2va, folder, "")
