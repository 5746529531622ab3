"""A stage of a very small random Sa2VA, whose samples take turns in having a mask, a picture, or text alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from support.small_model import build_model, draw_sample
from torch import nn

from sa2va.model.batch import Batch
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.types import Sample, Turn

CONFIG = StageConfig(
    name="small", steps=4, batch_size=2, lr=1e-4, warmup_steps=1, save_every=0, log_every=1, autocast=False,
    num_workers=0,
)  # fmt: skip
TALK = Turn(question="Is it small ?", answer="It is.")


class SmallData:
    """Two samples a step: one with a mask, and one of a picture or of text alone; in odd steps the other way round."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def keys(self, step: int) -> list[Key]:
        return [(step, place) for place in (0, 1)]

    def __getitem__(self, key: Key) -> tuple[Sample, int]:
        step, place = int(key[0]), int(key[1])
        sample = draw_sample(2 * step + place)
        if (step + place) % 2:
            sample = Sample(turns=(TALK,), media=sample.media if step < 2 else ())
        return sample, 2 * step + place

    def collate(self, items: Sequence[tuple[Sample, int]]) -> Batch:
        samples, seeds = zip(*items, strict=True)
        return self.processor(samples, seeds=seeds)

    def __len__(self) -> int:
        return CONFIG.steps


class SmallModule(nn.Module):
    """The whole model and few random points."""

    def __init__(self, model: Sa2VA) -> None:
        super().__init__()
        self.model, self.losses = model, LossConfig(num_points=64)

    def forward(self, batch: Batch) -> dict[str, LossTerm]:
        return self.model(batch, self.losses)

    def count_rows(self, batch: Batch) -> dict[str, float]:
        return self.model.count_rows(batch, self.losses)


class SmallStage:
    """Train every weight."""

    def __init__(self, model: Sa2VA, processor: Processor) -> None:
        self.config: StageConfig = CONFIG
        self.module, self.data = SmallModule(model), SmallData(processor)

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()


@dataclass(frozen=True, kw_only=True)
class SmallConfig(StageConfig):
    """Build the stage on the model of the run, and record the call."""

    def build(self, context: RunContext) -> SmallStage:
        context.kept[self.name] = torch.nn.Identity()
        assert list(context.kept) == [f"small{number}" for number in range(1, len(context.kept) + 1)]
        stage = SmallStage(context.model, context.processor)
        stage.config = self
        return stage


@dataclass(frozen=True, kw_only=True)
class SmallRun(RunConfig):
    """Start from random weights; mark the finished model."""

    def build_model(self, folder: Path) -> tuple[Sa2VA, Processor]:
        return build_model(seed=1)

    def finish(self, model: Sa2VA, processor: Processor) -> None:
        with torch.no_grad():
            model.projector.fc2.bias.fill_(7)


def small_stages() -> tuple[SmallConfig, ...]:
    """Return the configs of two stages of one step each."""
    return tuple(SmallConfig(**{**vars(CONFIG), "name": name, "steps": 1}) for name in ("small1", "small2"))
