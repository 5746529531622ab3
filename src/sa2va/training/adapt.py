"""Train an adapter with the losses of supervised training on own data, with rehearsal of other datasets.

Flow: OwnData and DatasetShares -> Mixture -> Processor -> AdaptBatch -> Sa2VA.forward -> LossTerms; PartsConfig says
    which parts are trained.
Source: the alignment of [SEG] prompts with those of the stage before (named_masks.py) is our own.
Shapes: M mask tokens, L tokens of a question, C SAM 2 width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

import torch

from sa2va.checkpoints.adapter import read_adapter
from sa2va.checkpoints.find import find_model
from sa2va.media.source import uniform_indices
from sa2va.model.auxiliary import ForwardView
from sa2va.model.batch import Batch, move
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.lora import load_adapter
from sa2va.training.mixture import DatasetShare
from sa2va.training.named_masks import QUESTIONS, QuestionEncoder, pad_questions
from sa2va.training.own_data import OwnData, grid_figures, own_share
from sa2va.training.parts import PartsConfig, choose_parts
from sa2va.training.stage import OF_THE_RUN, RunContext
from sa2va.training.supervised import (
    ChosenFrames,
    SupervisedConfig,
    SupervisedData,
    SupervisedModule,
    SupervisedStage,
    save_memory,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(SupervisedConfig):
    """Settings of supervised training of an adapter."""

    own_data: OwnData | None = field(default=None, metadata=OF_THE_RUN)
    adapter: str = field(default="", metadata=OF_THE_RUN)
    parts: PartsConfig = field(default_factory=PartsConfig)
    lora_rank: int = 16
    new_tokens: Literal["all", "rows", "none"] = "none"
    align: float = 0.0  # weight of the distance of [SEG] prompts from those of the stage "masks"; 0 = off
    validation_items: int = 60  # held-out records of a validation
    datasets: tuple[DatasetShare, ...] = ()  # rehearsal: other datasets, by weights beside the 1.0 of own data

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise ValueError(f"stage {self.name}: an adapter needs LoRA weights; set lora_rank to 1 or more")
        super().__post_init__()
        if self.new_tokens != "none" or not (self.trains_vision_projector and self.trains_mask_decoder):
            raise ValueError(
                f"stage {self.name}: new_tokens, trains_vision_projector and trains_mask_decoder are not used here; "
                "set parts.embeddings, parts.vision_projector and parts.mask_decoder"
            )

    def choose_parts(self, model: Sa2VA) -> None:
        """Freeze, extend with LoRA weights or unfreeze each part of a model, in place."""
        choose_parts(
            model, self.parts, self.losses, rank=self.lora_rank, alpha=self.lora_alpha or None,
            dropout=self.lora_dropout, targets=self.lora_targets,
        )  # fmt: skip

    def build(self, context: RunContext) -> "AdaptStage":
        return AdaptStage(self, context)


@dataclass(frozen=True, kw_only=True)
class AdaptBatch(Batch):
    """Training batch with the question of each mask token."""

    question_ids: "Tensor"  # (M, L) long
    is_word: "Tensor"  # (M, L) bool, False at padding


class AdaptData(SupervisedData):
    """Data of the stage: own data, and the datasets of rehearsal."""

    def __init__(self, config: AdaptConfig, processor: Processor) -> None:
        assert config.own_data is not None
        super().__init__(replace(config, datasets=(own_share(config.own_data), *config.datasets)), processor)

    def collate(self, items: Sequence[ChosenFrames]) -> AdaptBatch:
        batch = super().collate(items)
        questions = []
        for row, item in enumerate(items):
            tokens = len(self.processor.design.object_tokens(len(item.keyframes)))
            own = []
            for turn in item.sample.turns:
                ids = self.processor.tokenizer.encode(turn.question, add_special_tokens=False)
                own += [ids] * (tokens * sum(len(span.objects) for span in turn.spans))
            questions += own[: int((batch.seg_positions[:, 0] == row).sum())]  # those of dropped turns come last
        words = pad_questions(self.processor, questions)
        return AdaptBatch(**{one.name: getattr(batch, one.name) for one in fields(batch)}, **words)


@dataclass(frozen=True)
class Alignment:
    """Auxiliary loss: relative squared distance of each [SEG] prompt from that of its question's words."""

    targets: "Tensor"  # (M, C)
    weight: float
    attention_layers: tuple[int, ...] = ()

    def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
        distance = (view.prompt_embeds.float() - self.targets).square().mean(-1)
        return {"align": LossTerm.of(distance / self.targets.square().mean().clamp(min=1e-6), self.weight)}


class AdaptModule(SupervisedModule):
    """Sa2VA with its losses, and the alignment of [SEG] prompts."""

    def __init__(self, model: Sa2VA, losses: LossConfig, questions: QuestionEncoder | None, align: float) -> None:
        super().__init__(model, losses)
        self.questions, self.align = questions, align

    def forward(self, batch: Batch) -> dict[str, LossTerm]:
        if self.questions is None or not isinstance(batch, AdaptBatch):
            return self.model(batch, self.losses)
        with torch.no_grad():
            targets = self.questions(batch.question_ids, batch.is_word).float()
        return self.model(batch, self.losses, auxiliary=Alignment(targets, self.align))

    def count_rows(self, batch: Batch) -> dict[str, float]:
        return super().count_rows(batch) | {"align": len(batch.seg_positions)}


class AdaptStage(SupervisedStage):
    """Stage of training an adapter; the parts that the config does not select are frozen."""

    config: AdaptConfig

    def __init__(self, config: AdaptConfig, context: RunContext) -> None:
        self.device, model = context.device, context.model
        self.data = AdaptData(config, context.processor)
        found = self.data.config
        self.config = replace(config, steps=found.steps, warmup_steps=found.warmup_steps, num_records=found.num_records)
        config.choose_parts(model)
        save_memory(model, config, context.device)
        if config.adapter:
            folder = find_model(config.adapter)
            load_adapter(model, read_adapter(folder)[1], folder)
        questions = None
        if config.align:
            questions = context.kept.get(QUESTIONS)
            if not isinstance(questions, QuestionEncoder):
                raise ValueError(f"stage {config.name}: align needs a stage of named masks before it; set align=0")
            questions.requires_grad_(False)
        self.module = AdaptModule(model, config.losses, questions, config.align)

    def parameters(self) -> "Iterator[Tensor]":
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def validate(self, step: int) -> dict[str, float]:
        """Measure held-out masks of given answers on the target grid."""
        assert self.config.own_data is not None
        model, pairs = self.module.model, []
        for number, sample in enumerate(self.config.own_data.held_out_samples(self.config.validation_items)):
            keyframes = uniform_indices(sample.num_frames, self.data.num_frames)
            chosen = ChosenFrames(sample, keyframes, number, "", f"held-out sample {number}")
            batch = move(self.data.collate([chosen]), self.device)
            states = model.mllm.run_text(model.encode(batch))
            frames = model.sam2.encode_frames(batch.sam_pixel_values)
            output = model.decode_masks(model.gather_seg_states(states, batch), frames, batch.seg_rows)
            pairs.append((output.mask_logits, batch.seg_targets))
        return grid_figures(pairs)
