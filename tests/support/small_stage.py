"""A stage of a very small random Sa2VA, whose samples take turns in having a mask, a picture, or text alone."""

from collections.abc import Iterator, Sequence

from support.small_model import draw_sample
from torch import nn

from sa2va.model.batch import Batch
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.stage import Key, StageConfig
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
