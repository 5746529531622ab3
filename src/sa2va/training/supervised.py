"""Train Sa2VA on a mixture of datasets with the paper's losses, for any family and dataset.

Flow: dataset names -> Mixture -> Sample -> Processor -> Batch -> Sa2VA.forward -> LossTerms.
Source: Sa2VA, arXiv:2501.04001, section 3.3, and its released configuration: LoRA on the language model; embeddings,
    head, projectors and mask decoder fully trained; both image encoders frozen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import nn

from sa2va.data.base import Mixture
from sa2va.data.catalog import build_dataset
from sa2va.media.source import uniform_indices
from sa2va.model.batch import Batch
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig
from sa2va.training.lora import add_lora, merge_lora
from sa2va.training.new_tokens import change_seg_design
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.types import Sample

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """Dataset of a mixture, with its sampling weight."""

    name: str  # in data/catalog.py or an extension
    weight: float = 1.0  # share of the samples, in any unit


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(StageConfig):
    """Settings of supervised training; the defaults are the paper's."""

    datasets: tuple[DatasetShare, ...]
    losses: LossConfig = field(default_factory=LossConfig)
    betas: tuple[float, float] = (0.9, 0.999)
    num_frames: int = 5  # key frames of a clip
    frames: Literal["random", "uniform"] = "random"  # selection of the key frames, sorted
    mask_side: int = 256  # px, side of the square that targets are resized to
    max_tokens: int = 8192  # limit of a conversation, see `Processor.encode_sample`
    lora_rank: int = 128  # 0 = train the whole language model
    lora_dropout: float = 0.05
    trains_embeddings: bool = True  # input embeddings and language model head, since the mask tokens are new
    trains_vision_projector: bool = True
    trains_mask_decoder: bool = True

    def build(self, context: RunContext) -> "SupervisedStage":
        return SupervisedStage(self, context)


@dataclass(frozen=True, kw_only=True)
class SupervisedRun(RunConfig):
    """Run whose adapters are merged into the model before it is saved."""

    seg_design: Literal["", "single", "repeat", "multiple"] = ""  # [SEG] design; "" = that of the start model

    def build_model(self, folder: Path) -> tuple[Sa2VA, Processor]:
        model, processor = super().build_model(folder)
        return change_seg_design(model, processor, self.seg_design) if self.seg_design else (model, processor)

    def finish(self, model: Sa2VA, processor: Processor) -> None:
        merge_lora(model)


@dataclass(frozen=True)
class ChosenFrames:
    """Sample with the indices of its key frames."""

    sample: Sample
    keyframes: list[int]
    seed: int  # seed of its random points


class SupervisedData:
    """Data of the stage: samples of a mixture with their key frames."""

    def __init__(self, config: SupervisedConfig, processor: Processor) -> None:
        self.config, self.processor = config, processor
        shares = config.datasets
        self.mixture = Mixture([build_dataset(one.name) for one in shares], [one.weight for one in shares], config.seed)

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        return [(step * self.config.batch_size + place,) for place in range(self.config.batch_size)]

    def __getitem__(self, key: Key) -> ChosenFrames:
        index = int(key[0])
        sample = self.mixture[index]
        rng = np.random.default_rng([self.config.seed, index])
        return ChosenFrames(sample, self._choose_frames(sample.num_frames, rng), index)

    def _choose_frames(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        wanted = self.config.num_frames
        if num_frames <= wanted:
            return list(range(num_frames))
        if self.config.frames == "uniform":
            return uniform_indices(num_frames, wanted)
        return sorted(rng.choice(num_frames, wanted, replace=False).tolist())

    def collate(self, items: Sequence[ChosenFrames]) -> Batch:
        return self.processor(
            [item.sample for item in items],
            [item.keyframes for item in items],
            seeds=[item.seed for item in items],
            mask_side=self.config.mask_side,
            max_tokens=self.config.max_tokens,
        )


class SupervisedModule(nn.Module):
    """Sa2VA with the losses of its stage."""

    def __init__(self, model: Sa2VA, losses: LossConfig) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, batch: Batch) -> "dict[str, LossTerm]":
        return self.model(batch, self.losses)


class SupervisedStage:
    """Stage of supervised training; parameters that the config does not select are frozen."""

    def __init__(self, config: SupervisedConfig, context: RunContext) -> None:
        self.config, model = config, context.model
        self.data = SupervisedData(config, context.processor)
        choose_trained(model, config)
        self.module = SupervisedModule(model, config.losses)

    def parameters(self) -> "Iterator[Tensor]":
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)


def choose_trained(model: Sa2VA, config: SupervisedConfig) -> None:
    """Freeze all parameters that the config does not select; add LoRA weights if configured."""
    mllm, decoder = model.mllm, model.sam2.native.mask_decoder
    trained = [model.projector]
    if config.lora_rank:
        add_lora(model, config.lora_rank, dropout=config.lora_dropout)
    else:
        model.requires_grad_(False)
        trained.append(mllm.text_model)
    if config.trains_embeddings:
        trained += [mllm.native.get_input_embeddings(), mllm.native.get_output_embeddings()]
    if config.trains_vision_projector:
        trained.append(mllm.vision_projector)
    if config.trains_mask_decoder:
        trained.append(decoder)
    for part in trained:
        part.requires_grad_(True)
    # A head without a loss would only be changed by weight decay.
    decoder.iou_prediction_head.requires_grad_(bool(config.trains_mask_decoder and config.losses.iou))
    decoder.pred_obj_score_head.requires_grad_(bool(config.trains_mask_decoder and config.losses.presence))
