"""Train several stages one after the other in the processes of one launch, since their start takes seconds.

Program: `torchrun --nproc-per-node=2 several_processes.py FOLDER NAME ...` trains RUNS[NAME] into FOLDER/NAME.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program it knows its own folder only
from support.small_model import build_model
from support.small_rewards import build_rewards
from support.small_stage import SmallRun, SmallStage, small_stages
from support.toy_stage import ToyStage, toy_config

from sa2va.model.families.protocol import TextInput
from sa2va.training.logger import RunLogger
from sa2va.training.lora import add_lora
from sa2va.training.new_tokens import train_new_rows
from sa2va.training.processes import end_process, is_main_process, start_process
from sa2va.training.run import train_run
from sa2va.training.savers import checkpoint_layers
from sa2va.training.stage import Key, Parallel, Stage
from sa2va.training.supervised import new_token_ids
from sa2va.training.trainer import run_stage

STOP_AT = 7  # step at which a toy run of the name "stopped-..." fails; its state is that of step 5
SMALL_STOP_AT = 3
WHOLE_RUN = "run"  # two stages and the saved model; it leaves the process group, so it comes last
KILLED = {"toy-ddp-killed": (0, 8), "small-fsdp-killed": (1, 2)}  # launch and step in which process 1 is killed


def build_toy(**changes: Any) -> ToyStage:
    """Every third step has a mark in a single row."""
    return ToyStage(toy_config(**changes), dropout=0.0, mark_every=3)


def build_small(**changes: Any) -> SmallStage:
    stage = SmallStage(*build_model(seed=1))
    stage.config = replace(stage.config, save_every=1, **changes)
    return stage


def build_run(parallel: Parallel = "ddp") -> SmallRun:
    return SmallRun(name="small", output="", stages=small_stages(), device="cpu", parallel=parallel)


class LoraStage(SmallStage):
    """Stage whose validation calls the model by other methods than `forward`."""

    def validate(self, step: int) -> dict[str, float]:
        mllm = self.module.model.mllm
        embeds = mllm.embed_text([5, 6, 7], torch.device("cpu"))
        inputs = TextInput(embeds=embeds, attention_mask=torch.ones(1, 3).long(), position_ids=None)
        return {"state": mllm.run_text(inputs).norm().item()}


def build_lora(**changes: Any) -> LoraStage:
    """LoRA, new-token rows, projector and mask decoder; the rest frozen; averaged weights, checkpointed layers."""
    model, processor = build_model(seed=1)
    stage = LoraStage(model, processor)
    stage.config = replace(stage.config, ema=0.9, clip_norm=0.5, validate_every=2, **changes)
    add_lora(model, rank=4)
    for part in (model.projector, model.sam2.native.mask_decoder):
        part.requires_grad_(True)
    train_new_rows(model, new_token_ids(processor))
    checkpoint_layers(model, enabled=True)
    return stage


class Stopping:
    """Data that fail at a step."""

    def __init__(self, data: Any, step: int) -> None:
        self.data, self.step = data, step

    def keys(self, step: int) -> list[Key]:
        if step == self.step:
            raise ValueError(f"stopped at {step}")
        return self.data.keys(step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def __getitem__(self, key: Key) -> Any:
        return self.data[key]

    def __len__(self) -> int:
        return len(self.data)


def stopping(stage: Any, step: int) -> Any:
    stage.data = Stopping(stage.data, step)
    return stage


RUNS: dict[str, Callable[[], Any]] = {
    "toy-ddp": build_toy,
    "toy-ddp-killed": build_toy,
    "toy-accumulate-ddp": lambda: build_toy(accumulate=2),
    "toy-fsdp": lambda: build_toy(parallel="fsdp", validate_every=5),
    "toy-accumulate-fsdp": lambda: build_toy(parallel="fsdp", accumulate=2),
    "small-ddp": build_small,
    "small-fsdp": lambda: build_small(parallel="fsdp"),
    "small-fsdp-killed": lambda: build_small(parallel="fsdp"),
    "rewards-ddp": build_rewards,
    "lora-fsdp": lambda: build_lora(parallel="fsdp"),
    "stopped-late-toy-fsdp": lambda: stopping(build_toy(parallel="fsdp"), 11),
    "stopped-toy-fsdp": lambda: stopping(build_toy(parallel="fsdp"), STOP_AT),
    "stopped-small-fsdp": lambda: stopping(build_small(parallel="fsdp"), SMALL_STOP_AT),
}


def train(stage: Stage, folder: Path, device: torch.device | str = "cpu") -> None:
    """Train one stage without progress on the screen."""
    with RunLogger(folder, quiet=True, tensorboard=False, main=is_main_process()) as logger:
        run_stage(stage, folder, device, logger)


def kill_at(module: nn.Module, step: int) -> None:
    """Kill this process before a step, counted from its start."""
    steps = iter(range(10**6))

    def die(module: nn.Module, arguments: Any) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    module.register_forward_pre_hook(die)


def main() -> None:
    """Train from the command line."""
    torch.set_num_threads(1)
    device = start_process("cpu", parallel="fsdp")
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for name in names:
        if name == WHOLE_RUN:
            train_run(build_run("fsdp"), folder / name, quiet=True)
            continue
        stage = RUNS[name]()
        launch, step = KILLED.get(name, (-1, 0))
        if launch == int(os.environ["TORCHELASTIC_RESTART_COUNT"]) and os.environ["RANK"] == "1":
            kill_at(stage.module, step)
        try:
            train(stage, folder / name, device)
        except ValueError as error:
            if not name.startswith("stopped"):
                raise
            assert "stopped at" in str(error), error
    end_process()


if __name__ == "__main__":
    main()
