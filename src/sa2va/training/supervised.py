"""Train Sa2VA on a mixture of datasets with the paper's losses, for any family and dataset.

Flow: dataset names -> TrainingMixture -> Sample -> Processor -> Batch -> Sa2VA.forward -> LossTerms.
Source: Sa2VA, arXiv:2501.04001, section 3.3, and its released configuration: LoRA on the language model; embeddings,
    head, projectors and mask decoder fully trained; both image encoders frozen.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from sa2va.data.stored import DrawConfig
from sa2va.inference.keyframes import keyframe_indices
from sa2va.model.batch import Batch
from sa2va.model.families.templates import find_template
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import ADDED_TOKENS
from sa2va.training.config import RunConfig
from sa2va.training.lora import add_lora, merge_lora
from sa2va.training.mixture import BatchOrder, DatasetShare, TokenCosts, TrainingMixture, drawn_name, open_mixture
from sa2va.training.new_tokens import change_seg_design, merge_new_rows, train_new_rows, untie_embeddings
from sa2va.training.processes import runs_in_bfloat16
from sa2va.training.savers import checkpoint_layers, halve_frozen
from sa2va.training.stage import OF_THE_RUN, Key, RunContext, StageConfig
from sa2va.types import Frame, FrameSource, Sample

if TYPE_CHECKING:
    from torch import Tensor

USUAL_PICTURE = (480, 640)  # px, size of most COCO pictures, by which the tokens of a picture are estimated
FRAMES_AT_ONCE = 16  # frames of a clip that are decoded together when all are read


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(StageConfig):
    """Settings of supervised training; the defaults are the paper's, except where a comment says so."""

    datasets: tuple[DatasetShare, ...]
    data: str = ""  # root of all data; each dataset lies in its folder of data/catalog.py below it
    draw: DrawConfig = field(default_factory=DrawConfig)
    steps: int = 0  # optimizer steps; 0 = `epochs` of the mixture
    epochs: float = 1.0  # an epoch draws each record of each dataset as often as its repeats say
    batch_size: int = 64
    lr: float = 4e-5
    warmup_steps: int = 0  # 0 = `warmup_share` of the steps
    warmup_share: float = 0.05
    min_lr_ratio: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    decay_vectors: bool = True  # weight decay of all trained parameters, also norms, biases and embeddings
    losses: LossConfig = field(default_factory=LossConfig)
    num_frames: int = 0  # key frames of a clip; 0 = those of the start model. The trained model keeps this number
    # Key frames as the model predicts (ours), or random ones (the paper's).
    frames: Literal["model", "random"] = "model"
    frame_jitter: bool = True  # shift uniform key frames at random by up to half their distance, as Sa2VA-i
    max_objects: int = 5  # objects of a sample whose masks are decoded, at random; 0 = all
    mask_side: int = 256  # px, side of the square that targets are resized to
    max_tokens: int = 8192  # limit of a conversation, see `Processor.encode_sample`
    group_by_length: bool = True  # samples of similar length share a batch, see `BatchOrder`
    group_size: int = 0  # samples of similar length side by side; 0 = at most a quarter of a step
    lora_rank: int = 128  # 0 = train the whole language model
    lora_alpha: int = 0  # scale of the LoRA weights is alpha / rank; 0 = alpha is twice the rank
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ()  # last names of linear layers of the text model; () = all. Never the head
    new_tokens: Literal["all", "rows", "none"] = "all"  # trained rows of embeddings and head: all, or of new tokens
    trains_vision_projector: bool = True
    trains_mask_decoder: bool = True
    gradient_checkpointing: bool = False  # compute activations again in the backward pass: less memory, more time
    halves_frozen: bool = False  # keep frozen matrices in bfloat16; needs autocast
    # Records of each dataset. Saved with a state, since other data would be drawn in another order.
    num_records: tuple[int, ...] = field(default=(), metadata=OF_THE_RUN)

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds: tuple[tuple[str, float, float], ...] = (
            ("epochs", 1e-9, math.inf),
            ("warmup_share", 0, 0.5),
            ("num_frames", 0, 256),
            ("max_objects", 0, math.inf),
            ("mask_side", 1, 4096),
            ("max_tokens", 1, math.inf),
            ("group_size", 0, self.batch_size),
            ("lora_rank", 0, 4096),
            ("lora_alpha", 0, math.inf),
            ("lora_dropout", 0, 0.999),
        )
        self.check_bounds(bounds)
        if self.group_size and self.batch_size % self.group_size:
            raise ValueError(
                f"stage {self.name}: group_size is {self.group_size}; expected a divisor of batch_size, "
                f"{self.batch_size}"
            )
        if self.new_tokens != "all" and not self.lora_rank:
            raise ValueError(
                f"stage {self.name}: new_tokens={self.new_tokens} needs LoRA; set lora_rank, or new_tokens=all"
            )

    def build(self, context: RunContext) -> "SupervisedStage":
        return SupervisedStage(self, context)

    @property
    def side_by_side(self) -> int:
        """Number of samples of similar length side by side; 0 = random order."""
        if not self.group_by_length:
            return 0
        # It must not depend on the number of processes or of accumulated batches, which a resumed run may change.
        most = max(1, self.batch_size // 4)
        return self.group_size or max(n for n in range(1, most + 1) if self.batch_size % n == 0)

    def of_mixture(self, mixture: TrainingMixture) -> "SupervisedConfig":
        """Return the config with the numbers of steps and records that follow from the mixture.

        Raises:
            ValueError: `steps` is 0, and the mixture has weights, not repeats.
        """
        steps = self.steps or math.ceil(mixture.num_items(self.epochs) / self.batch_size)
        return replace(
            self,
            steps=steps,
            warmup_steps=self.warmup_steps or math.ceil(self.warmup_share * steps),
            num_records=tuple(len(dataset) for dataset in mixture.datasets),
        )


@dataclass(frozen=True, kw_only=True)
class SupervisedRun(RunConfig):
    """Run whose adapters are merged into the model before it is saved."""

    family: str = ""  # family that the start model must have; "" = any
    base: str = ""  # MLLM that the start model is assembled from, for people
    template: str = ""  # chat template; "" = that of the start model
    seg_design: Literal["", "single", "repeat", "multiple"] = ""  # [SEG] design; "" = that of the start model
    # Input embeddings and head become two matrices, as in the paper and in every published model. False keeps the tie
    # of a start model that has one.
    unties: bool = True

    @property
    def origin(self) -> tuple[str, ...]:
        changes = (f"{name}={getattr(self, name)}" for name in ("template", "seg_design", "unties"))
        return (*super().origin, *changes)

    def build_model(self, folder: Path) -> tuple[Sa2VA, Processor]:
        self.check_start()
        return self.prepare(*super().build_model(folder))

    def check_start(self) -> None:
        """Refuse a run without a start model.

        Raises:
            ValueError: `start` is empty.
        """
        if not self.start:
            made = f", made from {self.base} by sa2va assemble --mllm MLLM --sam facebook/sam2-hiera-large FOLDER"
            raise ValueError(
                f"run {self.name} needs a model to start from; set start=FOLDER{made if self.base else ''}"
            )

    def prepare(self, model: Sa2VA, processor: Processor) -> tuple[Sa2VA, Processor]:
        """Change the start model in place as the run asks; it may be on the meta device."""
        if self.family and model.config.family != self.family:
            raise ValueError(
                f"run {self.name} trains a model of family {self.family}, and {self.start} is of family "
                f"{model.config.family}; choose another recipe or start"
            )
        if self.unties:
            untie_embeddings(model)
        if self.template:
            find_template(self.template)
            model.config = replace(model.config, template=self.template)
        if self.seg_design:
            return change_seg_design(model, processor, self.seg_design)
        return model, Processor(model.config, processor.tokenizer)

    def finish(self, model: Sa2VA, processor: Processor) -> None:
        merge_lora(model)
        merge_new_rows(model)


@dataclass(frozen=True)
class ChosenFrames:
    """Sample with the indices of its key frames."""

    sample: Sample
    keyframes: list[int]
    seed: int  # seed of its random points
    dataset: str  # its name in `Batch.counts`
    name: str  # in messages


class SupervisedData:
    """Data of the stage: samples of a mixture with their key frames.

    Attributes:
        config: with the numbers of steps that follow from the mixture.
        mixture: open datasets.
    """

    def __init__(self, config: SupervisedConfig, processor: Processor) -> None:
        self.processor = processor
        self.mixture = open_mixture(config.datasets, config.data, config.draw, config.seed)
        self.config = config.of_mixture(self.mixture)
        self.num_frames = config.num_frames or processor.config.num_keyframes
        self.order = BatchOrder(
            self.mixture,
            _token_costs(processor, self.num_frames),
            batch_size=config.batch_size,
            steps=self.config.steps,
            group_size=config.side_by_side,
            seed=config.seed,
        )

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        return self.order.keys(step)

    def __getitem__(self, key: Key) -> ChosenFrames:
        index, source = int(key[0]), int(key[1])
        sample, name = self.mixture.draw(key), self.mixture.describe(key)
        rng = np.random.default_rng([self.config.seed, index])
        return ChosenFrames(
            sample, self._choose_frames(sample, rng), index, drawn_name(self.mixture.shares[source]), name
        )

    def _choose_frames(self, sample: Sample, rng: np.random.Generator) -> list[int]:
        num_frames, wanted = sample.num_frames, self.num_frames
        if num_frames <= wanted:
            return list(range(num_frames))
        if self.config.frames == "random":
            return sorted(rng.choice(num_frames, wanted, replace=False).tolist())
        shift = float(rng.uniform(-0.5, 0.5)) if self.config.frame_jitter else 0.0
        frames = read_frames(sample.media[0], num_frames)
        return keyframe_indices(frames, num_frames, self.processor.config.keyframes, wanted, shift)

    def collate(self, items: Sequence[ChosenFrames]) -> Batch:
        batch = self.processor(
            [item.sample for item in items],
            [item.keyframes for item in items],
            seeds=[item.seed for item in items],
            names=[item.name for item in items],
            mask_side=self.config.mask_side,
            max_tokens=self.config.max_tokens,
            max_objects=self.config.max_objects,
        )
        return replace(batch, counts={**batch.counts, **Counter(item.dataset for item in items)})


def read_frames(source: FrameSource, num_frames: int) -> Iterator[Frame]:
    """Decode all frames of a clip one by one."""
    for first in range(0, num_frames, FRAMES_AT_ONCE):
        yield from source.frames(range(first, min(first + FRAMES_AT_ONCE, num_frames)))


def _token_costs(processor: Processor, num_frames: int) -> TokenCosts:
    blank = np.zeros((*USUAL_PICTURE, 3), np.uint8)
    picture, frame = (
        processor.family.read_picture(blank, processor.config, is_frame=is_frame).num_tokens
        for is_frame in (False, True)
    )
    return TokenCosts(picture, frame, num_frames)


class SupervisedModule(nn.Module):
    """Sa2VA with the losses of its stage."""

    def __init__(self, model: Sa2VA, losses: LossConfig) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, batch: Batch) -> "dict[str, LossTerm]":
        return self.model(batch, self.losses)

    def count_rows(self, batch: Batch) -> dict[str, float]:
        return self.model.count_rows(batch, self.losses)


class SupervisedStage:
    """Stage of supervised training; parameters that the config does not select are frozen."""

    def __init__(self, config: SupervisedConfig, context: RunContext) -> None:
        model, processor = context.model, context.processor
        if config.num_frames:
            check_num_frames(processor, config.num_frames)
            model.config = processor.config = replace(model.config, num_keyframes=config.num_frames)
        self.data = SupervisedData(config, processor)
        self.config = self.data.config
        choose_trained(model, config, new_token_ids(processor))
        save_memory(model, config, context.device)
        self.module = SupervisedModule(model, config.losses)

    def parameters(self) -> "Iterator[Tensor]":
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def summarize(self, counts: dict[str, int]) -> list[dict[str, str | float]]:
        """Return a row for each dataset of the mixture: records, wanted share, drawn share and samples."""
        return self.data.mixture.rows(counts)


def check_num_frames(processor: Processor, num_frames: int) -> None:
    """Refuse more key frames than the tokenizer has mask tokens for.

    Raises:
        ValueError: the [SEG] design has a token per frame, and the tokenizer lacks some.
    """
    known = processor.tokenizer.get_vocab()
    if missing := [token for token in processor.design.object_tokens(num_frames) if token not in known]:
        raise ValueError(
            f"num_frames is {num_frames}, and the tokenizer has no {missing[0]}; set seg_design=multiple on a start "
            f"model with {num_frames} key frames, or num_frames={processor.config.num_keyframes}"
        )


def new_token_ids(processor: Processor) -> list[int]:
    """Return the ids of the tokens that Sa2VA adds to a tokenizer, in increasing order."""
    known = processor.tokenizer.get_vocab()
    return sorted({*(known[token] for token in ADDED_TOKENS), *processor.seg_tokens})


def save_memory(model: Sa2VA, config: SupervisedConfig, device: torch.device) -> None:
    """Apply the memory savers of a config, in place."""
    checkpoint_layers(model, enabled=config.gradient_checkpointing)
    if config.halves_frozen and runs_in_bfloat16(config, device):
        halve_frozen(model)


def choose_trained(model: Sa2VA, config: SupervisedConfig, new_ids: Sequence[int]) -> None:
    """Freeze all parameters that the config does not select; add LoRA weights if configured."""
    mllm, decoder = model.mllm, model.sam2.native.mask_decoder
    trained = [model.projector]
    if config.lora_rank:
        add_lora(
            model,
            config.lora_rank,
            alpha=config.lora_alpha or None,
            dropout=config.lora_dropout,
            targets=config.lora_targets,
        )
    else:
        model.requires_grad_(False)
        trained.append(mllm.text_model)
    if config.new_tokens == "all":
        trained += [mllm.native.get_input_embeddings(), mllm.native.get_output_embeddings()]
    if config.trains_vision_projector:
        trained.append(mllm.vision_projector)
    if config.trains_mask_decoder:
        trained.append(decoder)
    for part in trained:
        part.requires_grad_(True)
    if config.new_tokens == "rows":
        train_new_rows(model, new_ids)
    # A head without a loss would only be changed by weight decay.
    decoder.iou_prediction_head.requires_grad_(bool(config.trains_mask_decoder and config.losses.iou))
    decoder.pred_obj_score_head.requires_grad_(bool(config.trains_mask_decoder and config.losses.presence))
