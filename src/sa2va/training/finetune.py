"""Configure and run fine-tuning on own data; the result is an adapter in PEFT's format.

Flow: `sa2va finetune --data PATH` -> light or deep (a FinetuneRun) -> training/run.py -> adapter_config.json and
    adapter_model.safetensors in the folder of the run, for `sa2va.load(base, adapter=folder)`.
Source: LoRA, arXiv:2106.09685. Which parts are trained, and how, was chosen by measurement (LOG.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from sa2va.checkpoints.adapter import CONFIG_FILE, WEIGHTS_FILE
from sa2va.checkpoints.device import choose_device
from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import build_empty, open_checkpoint
from sa2va.checkpoints.quantize import quantize_mllm
from sa2va.data.augment import AugmentConfig
from sa2va.data.own.objects import OwnConfig
from sa2va.data.stored import DrawConfig
from sa2va.extensions import collect, resolve
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.adapt import AdaptConfig
from sa2va.training.config import RunConfig, apply_overrides
from sa2va.training.lora import adapter_tensors, save_adapter
from sa2va.training.named_masks import NamedMasksConfig
from sa2va.training.own_data import OwnData
from sa2va.training.parts import PartsConfig
from sa2va.training.stage import OF_THE_RUN, StageConfig

# The embedded model empties masks of low presence. A decoder that learns new looks without this loss loses its masks.
PRESENCE = 0.3


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
    def last(self) -> AdaptConfig:
        """The stage that trains the adapter."""
        stage = self.stages[-1]
        assert isinstance(stage, AdaptConfig)
        return stage

    @property
    def origin(self) -> tuple[str, ...]:
        return (*super().origin, f"quantize={self.quantize}")

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
            quantize_mllm(model, self.quantize, choose_device(self.device))
            leave_out_of_states(model)
        return model, processor

    def save(self, model: Sa2VA, processor: Processor, folder: Path) -> None:
        save_adapter(model, folder, self.start)


def leave_out_of_states(model: Sa2VA) -> None:
    """Leave what bitsandbytes adds to state dicts out of training states, which hold no frozen weights anyway.

    torch's distributed state dicts refuse entries that belong to no parameter.
    """
    for layer in model.modules():
        if type(layer).__module__.startswith("bitsandbytes"):
            layer._save_to_state_dict = partial(nn.Module._save_to_state_dict, layer)


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
                name="adapt", steps=150, batch_size=8, lr=5e-4, warmup_steps=20, weight_decay=0.0, save_every_s=60.0,
                mask_side=256,
                losses=LossConfig(num_points=4096, iou=0.3, presence=PRESENCE),
            ),
        ),
    )  # fmt: skip


def deep(data: str, base: str = "tiny") -> FinetuneRun:
    """Fine-tune for another kind of pictures than the base model knows: train nearly everything on hundreds."""
    heads = LossConfig(
        bce=1.0, dice=2.0, place=0.3, iou=0.3, presence=PRESENCE, num_points=1024, uncertain_share=0.3, skip_empty=True
    )
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
                align=1.0, lora_rank=64,
                parts=PartsConfig(vision_tower="full", vision_projector="full", sam_encoder="full"),
            ),
        ),
    )  # fmt: skip


RECIPES = {"light": light, "deep": deep}


def configure(recipe: str, data: str, base: str, settings: Sequence[str]) -> FinetuneRun:
    """Return the run of a recipe with its settings.

    A light run rehearses what an extension lists for the base model under REHEARSAL.

    Raises:
        ValueError: unknown recipe or setting.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; expected one of {', '.join(RECIPES)}")
    run = RECIPES[recipe](data, base)
    if recipe == "light" and (reference := collect("REHEARSAL").get(base)):
        run = replace(run, stages=(replace(run.last, datasets=resolve(reference)()),))
    return apply_overrides(run, settings)


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
    run.last.choose_parts(model)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(trained, total, sum(2 * tensor.numel() for tensor in adapter_tensors(model).values()))
