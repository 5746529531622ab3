"""Run training in one or several processes, with Accelerate.

Flow: `torchrun`, `accelerate launch` or a plain start -> start_process -> run.py; build_accelerator -> trainer.py.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import distributed

from sa2va.checkpoints.device import choose_device, multiplies_bfloat16
from sa2va.training.stage import StageConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


def start_process(device: str, num_threads: int = 0) -> torch.device:
    """Join the process group, if there is one, and return the device of this process.

    cuDNN attention is disabled on GPUs, since it compiles a plan for every batch shape and most shapes are new.

    Args:
        device: device of the run; with several processes each takes its own GPU.
        num_threads: CPU threads of this process; 0 = torch's default.

    Raises:
        ValueError: no such device.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    if num_threads:
        torch.set_num_threads(num_threads)
    chosen = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return chosen
    with _extra():
        from accelerate import PartialState
    return PartialState(cpu=chosen.type == "cpu").device or chosen


def is_main_process() -> bool:
    """Tell whether this process writes the log, the states and the results."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Wait until every process of the run has reached this point."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def main_process_first() -> Generator[None]:
    """Run a block in the main process first; other processes enter after it, so they find the files it has written."""
    if not is_main_process():
        wait_for_all()
    yield
    if is_main_process():
        wait_for_all()


def end_process() -> None:
    """Leave the process group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def runs_in_bfloat16(config: StageConfig, device: torch.device) -> bool:
    """Whether a stage runs under bfloat16 autocast: if configured, and supported by the hardware."""
    return config.autocast and (device.type == "cuda" or multiplies_bfloat16(device))


def build_accelerator(config: StageConfig, device: torch.device) -> "Accelerator":
    """Build the Accelerator of a stage; use bfloat16 autocast if configured and supported by the hardware.

    Raises:
        ValueError: Accelerate is not installed.
    """
    with _extra():
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
    # Accelerate keeps one precision and device per process. Each stage has its own, so the state is reset, as in
    # transformers.Trainer.
    AcceleratorState._reset_state(reset_partial_state=not distributed.is_initialized())
    half = runs_in_bfloat16(config, device)
    return Accelerator(
        cpu=device.type == "cpu",
        device_placement=False,
        mixed_precision="bf16" if half else "no",
        gradient_accumulation_steps=config.accumulate,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # a step may skip parts
    )


@contextmanager
def _extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError("training needs an extra; run: pip install 'sa2va[train]'") from error
