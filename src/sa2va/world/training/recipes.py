"""Recipes of the embedded model: the parts first, as the paper's come pre-trained, then all tasks together.

Flow: `sa2va train tiny` -> RECIPES of world/extension.py -> TinyRun -> training/run.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sa2va.files.atomic import whole_folder
from sa2va.model.losses import LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.world.training.cotrain import CotrainStage, Teachers
from sa2va.world.training.encoders import SamVisionStage, VisionStage
from sa2va.world.training.head_calibration import calibrate
from sa2va.world.training.mask_decoder import MaskStage
from sa2va.world.training.memory import TrackStage
from sa2va.world.training.packed import PackedStage
from sa2va.world.training.tiny_model import (
    build_tiny_config,
    corpus,
    init_memory_attention,
    init_place_attention,
    init_positions,
    init_text,
    train_tokenizer,
)

MIN_CALIBRATION = 50  # requests; fewer may hold too few absent objects to fit anything


@dataclass(frozen=True, kw_only=True)
class TinyRun(RunConfig):
    """A run of the embedded model."""

    calibration: int = 600  # drawn requests that presence and scores are calibrated on in the end; 0 = not at all

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibration < 0 or 0 < self.calibration < MIN_CALIBRATION:
            raise ValueError(
                f"run {self.name}: calibration on {self.calibration} requests; use 0 or at least {MIN_CALIBRATION}"
            )

    def build_model(self, folder: Path) -> tuple[Sa2VA, Processor]:
        """Build random weights, or load those of `start`."""
        if self.start:
            return super().build_model(folder)
        tokenizer = load_tokenizer(folder / "tokenizer", self.seed)
        model = Sa2VA(build_tiny_config(tokenizer))
        init_positions(model)
        init_text(model)
        init_place_attention(model)
        init_memory_attention(model)
        return model, Processor(model.config, tokenizer)

    def finish(self, model: Sa2VA, processor: Processor) -> None:
        """Calibrate presence and scores on drawn requests."""
        if self.calibration:
            calibrate(model, processor, seed=self.seed, num_requests=self.calibration)


def load_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerBase:
    """Train the tokenizer of a run once; a resumed run reads the one it began with."""
    if not (folder / "tokenizer.json").is_file():
        with whole_folder(folder) as draft:
            train_tokenizer(corpus(seed)).save_pretrained(draft)
    return PreTrainedTokenizerFast.from_pretrained(folder)


@dataclass(frozen=True, kw_only=True)
class WorldStageConfig(StageConfig):
    """A stage on drawn scenes, by its name."""

    def build(self, context: RunContext) -> Any:
        """Build the stage that the name stands for."""
        if "teachers" not in context.kept:
            heads = Teachers(context.model, with_code=(context.folder / "tokenizer").is_dir())  # a new model's
            context.kept["teachers"] = heads.to(context.device)
        return WholeBatchStage(build_stage(self, context.model, context.processor, context.kept["teachers"]))


def build_stage(config: StageConfig, model: Sa2VA, processor: Processor, teachers: Any) -> Any:
    """Build the stage that a config names."""
    match config.name:
        case "vision":
            return VisionStage(config, model, processor)
        case "sam_vision":
            return SamVisionStage(config, model, processor)
        case "masks":
            if teachers.code is None:
                raise ValueError(
                    "stage masks cannot go on from a finished model, which has no object code; start from nothing"
                )
            return MaskStage(config, model, processor, teachers.code, num_objects=48)
        case "tracking":
            return TrackStage(config, model, processor)
        case "language" | "cotrain":
            return CotrainStage(config, model, processor, teachers, draws=config.name != "language")
        case "packed":
            return PackedStage(config, model, processor, teachers)
    known = "vision, sam_vision, masks, tracking, language, cotrain, packed"
    raise ValueError(f"unknown stage {config.name!r}; known: {known}")


@dataclass(frozen=True)
class WholeBatches:
    """Batches that are drawn in one piece."""

    batch: Any
    steps: int

    def keys(self, step: int) -> list[Key]:
        return [(step,)]

    def __getitem__(self, key: Key) -> Any:
        return self.batch(int(key[0]))

    def collate(self, items: Sequence[Any]) -> Any:
        return items[0]

    def __len__(self) -> int:
        return self.steps


class WholeBatchModule(nn.Module):
    """The weights of a stage, and its losses as one term each."""

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self.trained = stage.module()
        self._losses = stage.losses

    def forward(self, batch: Any) -> dict[str, LossTerm]:
        losses = self._losses(batch)
        loss = {"loss": LossTerm(losses.pop("total"), 1.0)}
        return loss | {name: LossTerm(value, 1.0, 0.0) for name, value in losses.items()}


class WholeBatchStage:
    """A stage whose batch is one piece."""

    def __init__(self, stage: Any) -> None:
        self.config = stage.config
        self.module = WholeBatchModule(stage)
        self.data = WholeBatches(stage.batch, stage.config.steps)
        self.parameters = stage.parameters


def tiny() -> RunConfig:
    """Train the embedded model from nothing: the parts first, then all tasks together."""
    return TinyRun(
        name="tiny",
        output="runs/tiny",
        stages=(
            WorldStageConfig(name="vision", steps=3500, batch_size=16, lr=1.5e-3, warmup_steps=200),
            WorldStageConfig(name="sam_vision", steps=1500, batch_size=16, lr=1.5e-3, warmup_steps=100),
            WorldStageConfig(name="masks", steps=1000, batch_size=12, lr=1e-3, warmup_steps=50),
            WorldStageConfig(name="tracking", steps=600, batch_size=6, lr=1e-3, warmup_steps=20),
            WorldStageConfig(name="language", steps=2500, batch_size=16, lr=1e-3, warmup_steps=100),
            WorldStageConfig(name="cotrain", steps=3000, batch_size=16, lr=8e-4, warmup_steps=100, ema=0.998),
        ),
    )


def tiny_more() -> RunConfig:
    """Go on with the embedded model from the weights in the package, on two CPU cores."""
    return _go_on(
        "tiny_more",
        WorldStageConfig(name="vision", steps=2500, batch_size=16, lr=1e-3, warmup_steps=50),
        WorldStageConfig(name="language", steps=1200, batch_size=16, lr=8e-4, warmup_steps=50),
        WorldStageConfig(name="cotrain", steps=3000, batch_size=16, lr=8e-4, warmup_steps=60, ema=0.998),
    )


def tiny_gpu() -> RunConfig:
    """Go on with the embedded model on one GPU whose machine has 16 cores to draw with, in an hour."""
    return _go_on(
        "tiny_gpu",
        WorldStageConfig(name="vision", steps=1000, batch_size=128, lr=1e-3, warmup_steps=50, num_workers=15),
        WorldStageConfig(name="cotrain", steps=4000, batch_size=128, lr=1.2e-3, ema=0.998, num_workers=15),
        WorldStageConfig(
            name="packed", steps=4000, batch_size=64, lr=1e-3, warmup_steps=60, ema=0.998, num_workers=15
        ),
    )  # fmt: skip


def _go_on(name: str, *stages: StageConfig) -> RunConfig:
    """Describe a run that begins with the weights in the package and is calibrated anew."""
    return TinyRun(name=name, output=f"runs/{name}", start="tiny", stages=stages)
