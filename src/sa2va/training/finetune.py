"""Configure and run fine-tuning on own data; the result is an adapter in PEFT's format.

Flow: `sa2va finetune --data PATH` -> light or deep (a FinetuneRun) -> training/run.py -> adapter_config.json and
    adapter_model.safetensors in the folder of the run, for `sa2va.load(base, adapter=folder)`.
Source: LoRA, arXiv:2106.09685. Which parts are trained, and how, was chosen by measurement (LOG.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sa2va.checkpoints.adapter import CONFIG_FILE, WEIGHTS_FILE, read_adapter
from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import build_empty, open_checkpoint
from sa2va.checkpoints.quantize import quantize_mllm
from sa2va.data.augment import AugmentConfig
from sa2va.data.base import Mixture
from sa2va.data.catalog import build_dataset
from sa2va.data.own.objects import OwnConfig
from sa2va.data.stored import DrawConfig
from sa2va.media.source import uniform_indices
from sa2va.model.batch import move
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig, apply_overrides
from sa2va.training.lora import adapter_tensors, load_adapter, save_adapter
from sa2va.training.named_masks import NamedMasksConfig
from sa2va.training.own_data import OwnData, grid_figures
from sa2va.training.parts import PartsConfig, choose_parts
from sa2va.training.stage import OF_THE_RUN, RunContext, StageConfig
from sa2va.training.supervised import (
    ChosenFrames,
    DatasetShare,
    SupervisedConfig,
    SupervisedData,
    SupervisedModule,
    SupervisedStage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(SupervisedConfig):
    """Settings of supervised training of an adapter."""

    own_data: OwnData | None = field(default=None, metadata=OF_THE_RUN)
    adapter: str = field(default="", metadata=OF_THE_RUN)
    parts: PartsConfig = field(default_factory=PartsConfig)
    validation_items: int = 60  # held-out records of a validation
    datasets: tuple[DatasetShare, ...] = ()  # rehearsal: other datasets, by weights beside the 1.0 of own data

    def build(self, context: RunContext) -> "AdaptStage":
        return AdaptStage(self, context)


class AdaptData(SupervisedData):
    """Data of the stage: own data, and the datasets of rehearsal."""

    def __init__(self, config: AdaptConfig, processor: Processor) -> None:
        assert config.own_data is not None
        self.config, self.processor = config, processor
        datasets = [config.own_data.open(), *(build_dataset(one.name) for one in config.datasets)]
        self.mixture = Mixture(datasets, [1.0, *(one.weight for one in config.datasets)], config.seed)


class AdaptStage(SupervisedStage):
    """Stage of training an adapter; the parts that the config does not select are frozen."""

    config: AdaptConfig

    def __init__(self, config: AdaptConfig, context: RunContext) -> None:
        self.config, self.device, model = config, context.device, context.model
        self.data = AdaptData(config, context.processor)
        choose_parts(model, config.parts, config.losses)
        if config.adapter:
            folder = find_model(config.adapter)
            load_adapter(model, read_adapter(folder)[1], folder)
        self.module = SupervisedModule(model, config.losses)

    def parameters(self) -> "Iterator[Tensor]":
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def validate(self, step: int) -> dict[str, float]:
        """Measure held-out masks of given answers on the target grid."""
        assert self.config.own_data is not None
        model, pairs = self.module.model, []
        for number, sample in enumerate(self.config.own_data.held_out_samples(self.config.validation_items)):
            keyframes = uniform_indices(sample.num_frames, self.config.num_frames)
            batch = move(self.data.collate([ChosenFrames(sample, keyframes, number)]), self.device)
            states = model.mllm.run_text(model.encode(batch))
            frames = model.sam2.encode_frames(batch.sam_pixel_values)
            output = model.decode_masks(model.gather_seg_states(states, batch), frames, batch.seg_rows)
            pairs.append((output.mask_logits, batch.seg_targets))
        return grid_figures(pairs)


@dataclass(frozen=True, kw_only=True)
class FinetuneRun(RunConfig):
    """Run that ends with an adapter; the base model is not changed."""

    data: str = field(metadata=OF_THE_RUN)  # file or folder of own data
    own: OwnConfig = field(default_factory=lambda: OwnConfig(held_out=0.2))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    draw: DrawConfig = field(default_factory=DrawConfig)
    adapter: str = ""  # earlier adapter to continue from: a folder or org/name; "" = none
    quantize: str = ""  # int8 or int4: train on a quantized MLLM (QLoRA); "" = none

    @property
    def own_data(self) -> OwnData:
        return OwnData(path=self.data, own=self.own, augment=self.augment, draw=replace(self.draw, seed=self.seed))

    @property
    def parts(self) -> PartsConfig:
        """How the last stage trains each part."""
        stage = self.stages[-1]
        assert isinstance(stage, AdaptConfig)
        return stage.parts

    @property
    def results(self) -> tuple[str, ...]:
        return CONFIG_FILE, WEIGHTS_FILE

    def describe_stage(self, stage: StageConfig) -> StageConfig:
        stage = super().describe_stage(stage)
        if isinstance(stage, AdaptConfig):
            return replace(stage, own_data=self.own_data, adapter=self.adapter)
        return replace(stage, own_data=self.own_data)

    def build_model(self, folder: Path) -> tuple[Sa2VA, Processor]:
        model, processor = super().build_model(folder)
        if self.quantize:
            quantize_mllm(model, self.quantize, torch.device("cpu"))
        return model, processor

    def save(self, model: Sa2VA, processor: Processor, folder: Path) -> None:
        save_adapter(model, folder, self.start)


def light(data: str, base: str = "tiny") -> FinetuneRun:
    """Fine-tune for a new look or a few new categories, with some pictures of them."""
    return FinetuneRun(
        name="light",
        output="",
        data=data,
        start=base,
        augment=AugmentConfig(flip=0.5, crop=0.5, color=0.2),
        stages=(
            AdaptConfig(
                name="adapt", steps=300, batch_size=8, lr=5e-4, warmup_steps=20, weight_decay=0.0, save_every_s=60.0,
                mask_side=256, losses=LossConfig(num_points=4096),
            ),
        ),
    )  # fmt: skip


def deep(data: str, base: str = "tiny") -> FinetuneRun:
    """Fine-tune for another kind of pictures than the base model knows: train nearly everything on hundreds."""
    heads = LossConfig(bce=1.0, dice=2.0, place=0.3, iou=0.3, num_points=1024, uncertain_share=0.3, skip_empty=True)
    return FinetuneRun(
        name="deep",
        output="",
        data=data,
        start=base,
        augment=AugmentConfig(flip=0.5, crop=0.25, color=0.4),
        draw=DrawConfig(groups="union"),
        stages=(
            NamedMasksConfig(name="masks", steps=3000, batch_size=16, lr=1.5e-3, losses=heads, save_every_s=300.0),
            AdaptConfig(
                name="adapt", steps=600, batch_size=16, lr=5e-4, mask_side=96, losses=heads, save_every_s=300.0,
                parts=PartsConfig(vision_tower="full", vision_projector="full", sam_encoder="full", rank=64),
            ),
        ),
    )  # fmt: skip


RECIPES = {"light": light, "deep": deep}


def configure(recipe: str, data: str, base: str, settings: Sequence[str]) -> FinetuneRun:
    """Return the run of a recipe with its settings.

    Raises:
        ValueError: unknown recipe or setting.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; expected one of {', '.join(RECIPES)}")
    return apply_overrides(RECIPES[recipe](data, base), settings)


@dataclass(frozen=True)
class Cost:
    """What a run trains and the memory that takes, without activations."""

    trained: int  # parameters
    total: int
    adapter_bytes: int

    @property
    def memory_bytes(self) -> int:
        """float32 weights, and gradients and two moments of the trained ones."""
        return 4 * self.total + 12 * self.trained


def measure_cost(run: FinetuneRun) -> Cost:
    """Count the parameters that a run trains, without loading the base model.

    Raises:
        ValueError: the base model cannot be found.
    """
    model = build_empty(open_checkpoint(find_model(run.start)).config)
    total = sum(parameter.numel() for parameter in model.parameters())
    choose_parts(model, run.parts, LossConfig())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(trained, total, sum(2 * tensor.numel() for tensor in adapter_tensors(model).values()))
