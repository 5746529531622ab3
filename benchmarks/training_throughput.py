"""Time supervised training of the embedded model against the same step under Transformers' Trainer.

Flow: samples of the drawn world, rendered beforehand -> run_stage, Trainer with two forward passes -> table.
    The plain forward pass is that of the released training, with the stock modules of Transformers: padded rows, logits
    of every token, the projector on every state, the stock image encoder of SAM 2. Data, losses, trained parameters,
    LoRA, precision and optimizer settings are the same, and all read their data in the training process.
Run: OMP_NUM_THREADS=1 python benchmarks/training_throughput.py [--steps 8] [--batch 8] [--float32]
"""

import copy
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measure import Clock, Table, choose_clock, name_clock, parser, repeat_command, report
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import Sam2VisionModel, Trainer, TrainingArguments
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleBlock

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint
from sa2va.data import catalog
from sa2va.data.base import Take
from sa2va.data.catalog import build_dataset
from sa2va.model.batch import Batch
from sa2va.model.losses import LossTerm, mask_losses
from sa2va.training.logger import RunLogger
from sa2va.training.stage import RunContext
from sa2va.training.supervised import SupervisedConfig, SupervisedStage
from sa2va.training.trainer import run_stage
from sa2va.types import Sample
from sa2va.world.training.recipes import world_supervised

GOAL = 1.3


class Rendered:
    """Samples that were drawn beforehand."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def render(config: SupervisedConfig, number: int) -> SupervisedConfig:
    """Draw the first samples of each dataset of a config, and return the config of these."""
    shares = []
    for share in config.datasets:
        drawn = Rendered(list(Take(build_dataset(share.name), number)))
        name = f"rendered/{share.name}"
        catalog.DATASETS[name] = lambda drawn=drawn: drawn
        shares.append(replace(share, name=name))
    return replace(config, datasets=tuple(shares))


class PlainForward(nn.Module):
    """Losses of a batch as the released training computes them, with stock modules."""

    def __init__(self, stage: SupervisedStage) -> None:
        super().__init__()
        self.model, self.losses = stage.module.model, stage.config.losses
        encoder = self.model.sam2.native.vision_encoder
        for part in (self.model.mllm.native, self.model.sam2.native):
            part.set_attn_implementation("sdpa")
        encoder.__class__ = Sam2VisionModel
        for block in encoder.backbone.blocks:
            block.__class__ = Sam2MultiScaleBlock
        for layer in self.model.modules():
            if isinstance(layer, LoraLayer):
                layer.lora_dropout.update({name: nn.Dropout(one.p) for name, one in layer.lora_dropout.items()})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        model = self.model
        found = model.mllm.native(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values=batch.pixel_values if len(batch.pixel_values) else None,
            labels=batch.labels,
            output_hidden_states=True,
        )
        states = model.projector(found.hidden_states[-1])  # (B, L, C)
        loss = found.loss
        if len(batch.seg_rows):
            prompts = states[batch.seg_positions[:, 0], batch.seg_positions[:, 1]]
            frames = model.sam2.project_maps(model.sam2.native.vision_encoder(batch.sam_pixel_values).fpn_hidden_states)
            output = model.decode_prompts(prompts, frames, batch.seg_rows)
            loss = loss + add_up(mask_losses(output, batch.seg_targets, self.losses, batch.seg_seeds))
        return {"loss": loss}


class OurForward(nn.Module):
    """Losses of a batch as run_stage computes them."""

    def __init__(self, stage: SupervisedStage) -> None:
        super().__init__()
        self.module = stage.module

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": add_up(self.module(batch))}


def add_up(terms: dict[str, LossTerm]) -> Tensor:
    """Return the weighted sum of the means of loss terms."""
    return torch.stack([term.weight * term.mean for term in terms.values()]).sum()


@contextmanager
def stamped(module: nn.Module, clock: Clock) -> Generator[list[float]]:
    """Note the time of the first forward pass of a module, and of each update, within a `with` block."""
    stamps: list[float] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_: stamps.append(clock()) if not stamps else None),
        register_optimizer_step_post_hook(lambda *_: stamps.append(clock())),
    ]
    try:
        yield stamps
    finally:
        for hook in hooks:
            hook.remove()


def run_ours(stage: SupervisedStage, folder: Path, clock: Clock) -> list[float]:
    """Train with run_stage; return the times of `stamped`."""
    with stamped(stage.module, clock) as stamps, RunLogger(folder, quiet=True, tensorboard=False) as logger:
        run_stage(stage, folder, "cpu", logger)
    return stamps


def run_trainer(
    stage: SupervisedStage, folder: Path, clock: Clock, wrap: Callable[[SupervisedStage], nn.Module]
) -> list[float]:
    """Train with Transformers' Trainer; return the times of `stamped`."""
    config, data, module = stage.config, stage.data, wrap(stage)
    items = [data[key] for step in range(config.steps) for key in data.keys(step)]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=config.steps, per_device_train_batch_size=config.batch_size,
        learning_rate=config.lr, weight_decay=config.weight_decay, max_grad_norm=config.clip_norm,
        adam_beta1=config.betas[0], adam_beta2=config.betas[1], lr_scheduler_type="cosine", logging_steps=10,
        bf16=config.autocast, use_cpu=True, save_strategy="no", report_to=[], remove_unused_columns=False,
        disable_tqdm=True, seed=config.seed,
    )  # fmt: skip

    def collate(some: list[Any]) -> dict[str, Batch]:
        return {"batch": data.collate(some)}

    with stamped(module, clock) as stamps:
        Trainer(module, arguments, train_dataset=items, data_collator=collate).train()  # ty: ignore
    return stamps


@dataclass(frozen=True)
class Case:
    """A way to train."""

    name: str
    run: Callable[[SupervisedStage, Path, Clock], list[float]]


CASES = (
    Case("run_stage", run_ours),
    Case("Trainer, our forward pass", lambda *given: run_trainer(*given, OurForward)),
    Case("Trainer, plain forward pass", lambda *given: run_trainer(*given, PlainForward)),
)


def main() -> int:
    made = parser("supervised training against Transformers' Trainer")
    made.add_argument("--steps", type=int, default=8)
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--float32", action="store_true", help="without bfloat16 autocast")
    options = made.parse_args()
    stage_config = world_supervised().stages[0]
    assert isinstance(stage_config, SupervisedConfig)
    config = replace(
        stage_config, steps=options.steps, batch_size=options.batch, num_workers=0, autocast=not options.float32
    )
    config = render(config, options.steps * options.batch)
    start, processor = load_checkpoint(find_model("tiny"), torch.device("cpu"), torch.float32)
    clock, times = choose_clock("cpu"), {case.name: [] for case in CASES}
    for _ in range(options.rounds):
        for case in CASES:
            with tempfile.TemporaryDirectory() as scratch:
                model, folder = copy.deepcopy(start), Path(scratch)
                context = RunContext(
                    model=model, processor=processor, seed=0, folder=folder, device=torch.device("cpu")
                )
                stamps = case.run(config.build(context), folder, clock)
            times[case.name].append((stamps[-1] - stamps[0]) / (len(stamps) - 1))
    precision = "float32" if options.float32 else "bfloat16 autocast"
    title = f"supervised training of the embedded model, LoRA, batch {options.batch}, {precision}, {name_clock(clock)}"
    table = Table(title, ("trainer", "step", "samples per second", "ratio"))
    plain = median(times[CASES[-1].name])
    for name, taken in times.items():
        table.add(name, median(taken), options.batch / median(taken), plain / median(taken))
    table.judge("samples per second, run_stage / Trainer with a plain forward pass",
                plain / median(times[CASES[0].name]), GOAL, at_least=True)  # fmt: skip
    return report(repeat_command("training_throughput.py", made, options), [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
