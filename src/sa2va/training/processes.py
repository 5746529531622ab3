"""Run a training in one process or several, through Accelerate.

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
    """Join the other processes of a run, where there are some, and return this one's device.

    On a GPU cuDNN's attention rests: it makes a plan for every new shape of a batch, and no two batches are alike.

    Args:
        device: of the run; of several processes each takes its own GPU.
        num_threads: CPU threads of this process; 0 = what torch chooses.

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
    """Wait until every process of the run has come this far."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def main_process_first() -> Generator[None]:
    """Let the main process go through a block before the others do, which then find what it has written."""
    if not is_main_process():
        wait_for_all()
    yield
    if is_main_process():
        wait_for_all()


def end_process() -> None:
    """Leave the other processes of a run."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def build_accelerator(config: StageConfig, device: torch.device) -> "Accelerator":
    """Build the Accelerator of a stage. The precision is bfloat16 where the hardware multiplies it, else float32.

    Raises:
        ValueError: Accelerate is not installed.
    """
    with _extra():
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
    # Accelerate keeps one precision and device for a process; here each stage has its own, as in transformers.Trainer.
    AcceleratorState._reset_state(reset_partial_state=not distributed.is_initialized())
    half = config.autocast and (device.type == "cuda" or multiplies_bfloat16(device))
    return Accelerator(
        cpu=device.type == "cpu",
        device_placement=False,
        mixed_precision="bf16" if half else "no",
        gradient_accumulation_steps=config.accumulate,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # no step uses every part
    )


@contextmanager
def _extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError("training needs an extra; run: pip install 'sa2va[train]'") from error
