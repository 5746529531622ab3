"""Run training in one or several processes, with Accelerate.

Flow: `torchrun`, `accelerate launch` or a plain start -> start_process -> run.py; build_accelerator -> trainer.py.
    A process that fails or dies ends the others: their next exchange fails at once (gloo), or the launcher ends them
    (NCCL). Repeating the command resumes from the last saved state, with any number of processes.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

from sa2va.checkpoints.device import choose_device, multiplies_bfloat16
from sa2va.training.stage import Parallel, StageConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

ValueT = TypeVar("ValueT")
LAUNCH = "torchrun --nproc-per-node=2 -m sa2va.apps.cli train ..."


def start_process(device: str, num_threads: int = 0, parallel: Parallel = "ddp") -> torch.device:
    """Join the process group, if a launcher has started this process, and return the device of this process.

    cuDNN attention is disabled on GPUs, since it compiles a plan for every batch shape and most shapes are new.

    Args:
        device: device of the run; with several processes each takes the GPU of its rank on its own machine.
        num_threads: CPU threads of this process; 0 = torch's default.
        parallel: how the processes share the model.

    Raises:
        ValueError: no such device, more processes than GPUs, or a model to shard and no launcher.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    if num_threads:
        torch.set_num_threads(num_threads)
    chosen = choose_device(device)
    world_size, local = _environment("WORLD_SIZE"), _environment("LOCAL_WORLD_SIZE")
    if world_size == 0 and parallel != "ddp":
        raise ValueError(f"parallel={parallel} shards the model over processes; start them with: {LAUNCH}")
    if world_size == 0 or (world_size == 1 and parallel == "ddp"):
        return chosen
    if chosen.type == "mps":
        raise ValueError(f"{world_size} processes cannot share the GPU of a Mac; start one, or set device=cpu")
    if chosen.type == "cuda":
        if chosen.index is not None:
            raise ValueError(f"device={chosen} with {world_size} processes: each takes its own GPU; set device=cuda")
        if local > (num_gpus := torch.cuda.device_count()):
            raise ValueError(
                f"{local} processes for {num_gpus} GPUs on this machine; use --nproc-per-node={num_gpus} or device=cpu"
            )
        if not distributed.is_nccl_available():
            raise ValueError("this torch has no NCCL, through which GPUs exchange gradients; install torch with CUDA")
        # The rank within the machine, not within the run, so that the second machine begins at its first GPU.
        torch.cuda.set_device(_environment("LOCAL_RANK"))
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    with _extra():
        from accelerate import PartialState
    return PartialState(cpu=chosen.type == "cpu").device or chosen


def _environment(name: str) -> int:
    """Return a number that the launcher has set, or 0."""
    return int(os.environ.get(name, "0"))


def process_rank() -> int:
    """Return the rank of this process among those of the run."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main_process() -> bool:
    """Tell whether this process writes the log, the states and the results."""
    return process_rank() == 0


def wait_for_all() -> None:
    """Wait until every process of the run has reached this point."""
    if distributed.is_initialized():
        distributed.barrier()


def agree_on(value: ValueT) -> ValueT:
    """Return the main process's value in every process; any object that can be pickled."""
    values = [value]
    if distributed.is_initialized():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def any_error() -> Generator[None]:
    """Raise an error of a block in every process, so that none waits for one that has failed.

    Raises:
        ValueError: the block has failed in another process.
    """
    caught: Exception | None = None
    try:
        yield
    except Exception as error:
        caught = error
    if distributed.is_initialized():
        texts: list[str | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(texts, None if caught is None else str(caught))
        failed = [(rank, text) for rank, text in enumerate(texts) if text is not None]
        if caught is None and failed:
            raise ValueError("process {}: {}".format(*failed[0]))
    if caught is not None:
        raise caught


def is_lost_process(error: BaseException) -> bool:
    """Tell whether an error means that another process of the run has ended or hangs."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


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
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # a step may skip parts
    )


@contextmanager
def _extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError("training needs an extra; run: pip install 'sa2va[train]'") from error
