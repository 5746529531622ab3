"""Load the batches of a stage with torch's DataLoader: spawned workers, batches in shared memory while it has room.

Flow: StageData.keys(step) -> StepSampler (the share of this process) -> StageItems in a worker -> trainer.py.
    The items of a step depend only on the seed and the step: a resumed run, or one with another number of workers or
    processes, sees the same data.
"""

import math
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sa2va.training.seeding import seed_all
from sa2va.training.stage import Key, StageConfig, StageData

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
PREFETCH = 3  # prefetched batches per worker
SMALLEST_SHARED = 2**16  # bytes; smaller tensors and arrays are sent by value


class StepSampler(Sampler[list[Key]]):
    """Sampler of the keys of one process's batches: a pure function of the seed and the step.

    The keys of a step are cut into runs of neighbors. Process r of W takes runs r, r + W, ... of them.
    """

    def __init__(
        self, data: StageData, config: StageConfig, steps: range, *, rank: int = 0, num_processes: int = 1
    ) -> None:
        self.data, self.config, self.steps, self.rank, self.num_processes = data, config, steps, rank, num_processes

    def __iter__(self) -> Iterator[list[Key]]:
        num_parts = self.config.accumulate
        for step in self.steps:
            keys = check_share(self.data, self.config, step, self.num_processes)
            num_batches = self.num_processes * num_parts
            for batch in range(self.rank, num_batches, self.num_processes):
                yield keys[batch * len(keys) // num_batches : (batch + 1) * len(keys) // num_batches]


def check_share(data: StageData, config: StageConfig, step: int, num_processes: int) -> list[Key]:
    """Return the keys of a step.

    Raises:
        ValueError: a process would have an empty batch.
    """
    keys = list(data.keys(step))
    if len(keys) < num_processes * config.accumulate:
        raise ValueError(
            f"stage {config.name}: step {step} has {len(keys)} items for {num_processes} processes of "
            f"{config.accumulate} batches each; use fewer processes, accumulate.{config.name}=1 or larger steps"
        )
    return keys


@dataclass(frozen=True)
class Failure:
    """Error of a worker process, as text that can be pickled."""

    text: str
    is_value_error: bool
    trace: str

    def to_exception(self, step: int) -> Exception:
        """Return the one-line exception to raise in the training loop; bad input stays a ValueError."""
        kind = ValueError if self.is_value_error else RuntimeError
        failure = kind(f"the batch of step {step} failed: {self.text}")
        failure.add_note(self.trace)
        return failure


class StageItems(Dataset[Any]):
    """Dataset of batches for DataLoader: a list of keys gives a batch, or a Failure."""

    def __init__(self, data: StageData, seed: int, stage: str) -> None:
        self.data, self.seed, self.stage = data, seed, stage

    def __getitem__(self, index: Key) -> Any:
        seed_all(self.seed, self.stage, "item", *index)
        return self.data[index]

    def __getitems__(self, keys: Sequence[Key]) -> Any:
        try:
            return self.data.collate([self[key] for key in keys])
        except Exception as error:
            words = " ".join(str(error).split())
            is_value_error = isinstance(error, ValueError)
            text = words if is_value_error else f"{type(error).__name__}: {words}"
            return Failure(text, is_value_error, traceback.format_exc())


def load_batches(
    data: StageData,
    config: StageConfig,
    steps: range,
    *,
    rank: int = 0,
    num_processes: int = 1,
    read_ahead: bool = False,
) -> Generator[Any]:
    """Yield the batches of one process for each step in order, `config.accumulate` of them per step.

    Close the generator to end the workers.

    Args:
        data: items of the stage; must be picklable if there are workers.
        config: gives seed, name, number of workers and of batches per step.
        steps: steps to load.
        rank: rank of this process.
        num_processes: number of processes that share each step.
        read_ahead: copy batches to pinned memory in a thread (GPU only).

    Raises:
        ValueError: an item cannot be built, or a step has too few.
        RuntimeError: a worker failed otherwise, or died.
    """
    num_workers = min(config.num_workers, len(steps) * config.accumulate)
    loader = DataLoader(
        StageItems(data, config.seed, config.name),
        batch_sampler=StepSampler(data, config, steps, rank=rank, num_processes=num_processes),
        collate_fn=_unchanged,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        prefetch_factor=PREFETCH if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        generator=torch.Generator(),  # by default the loader would advance the generator of the losses
        pin_memory=read_ahead,
    )
    try:
        with _one_thread_environment():
            batches = iter(loader)
        _WORKER_DEATHS.install()
    except Exception as error:
        error.add_note("the data of a stage must be picklable for workers; else set num_workers to 0")
        raise
    try:
        for number in range(len(steps) * config.accumulate):
            step = steps[number // config.accumulate]
            try:
                with _WORKER_DEATHS.reported():
                    batch = next(batches)
            except (RuntimeError, OSError, EOFError) as error:  # a worker died, maybe while it sent a tensor
                what = "" if isinstance(error, RuntimeError) else "a worker exited unexpectedly: "
                raise RuntimeError(f"the batch of step {step} failed: {what}{' '.join(str(error).split())}") from error
            if isinstance(batch, Failure):
                raise batch.to_exception(step)
            yield batch
    finally:
        # Until the shutdown, torch reports a dead worker of this loader again and again.
        getattr(batches, "_shutdown_workers", lambda: None)()


class _WorkerDeaths:
    """Handle SIGCHLD: let torch's handler raise only while a batch is awaited, not at an arbitrary line."""

    def __init__(self) -> None:
        self._report: Callable[[int, Any], Any] | None = None  # torch's; it raises if a worker of any loader has died
        self._is_awaited = False

    def install(self) -> None:
        """Replace torch's handler, which the first loader of a process has set."""
        current = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        if callable(current) and current is not self and threading.current_thread() is threading.main_thread():
            self._report = current
            signal.signal(signal.SIGCHLD, self)

    def __call__(self, number: int, frame: Any) -> None:
        try:
            assert self._report is not None
            self._report(number, frame)
        except RuntimeError:
            if self._is_awaited:
                raise

    @contextmanager
    def reported(self) -> Generator[None]:
        """Raise RuntimeError if a worker has died before this block or dies within it."""
        self._is_awaited = True
        try:
            if self._report is not None:
                self._report(signal.SIGCHLD, None)
            yield
        finally:
            self._is_awaited = False


_WORKER_DEATHS = _WorkerDeaths()


def _unchanged(batch: Any) -> Any:
    """Replace DataLoader's collation, since StageItems returns collated batches."""
    return batch


def _start_worker(number: int) -> None:
    """Initialize a worker: ignore Ctrl-C, which the parent handles, and send tensors with `send_tensor`."""
    del number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ForkingPickler.register(Tensor, send_tensor)
    ForkingPickler.register(np.ndarray, _send_array)


def send_tensor(tensor: Tensor) -> tuple[Any, ...]:
    """Send a tensor through shared memory, or by value if it is small or shared memory has little room.

    /dev/shm is small in containers. torch's default ends the process when shared memory runs out.
    """
    tensor = tensor.detach()
    size = tensor.nbytes
    if SMALLEST_SHARED <= size < free_shared_memory() / 4:
        alone = tensor.untyped_storage().nbytes() == size
        return reduce_tensor(tensor if alone else tensor.clone(memory_format=torch.contiguous_format))
    if not size:  # an empty tensor may have a stride that view() refuses
        return _empty, (tuple(tensor.shape), tensor.dtype)
    return _from_bytes, (
        tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        tensor.shape,
        tensor.dtype,
    )


def _send_array(array: np.ndarray) -> tuple[Any, ...]:
    if array.nbytes < SMALLEST_SHARED or array.dtype.kind not in "biufc":
        return array.__reduce__()  # ty: ignore[invalid-explicit-return]
    return _to_array, (torch.from_numpy(np.ascontiguousarray(array)),)


def free_shared_memory() -> float:
    try:
        space = os.statvfs("/dev/shm")
    except OSError:  # no /dev/shm outside Linux; shared memory has no limit of its own
        return math.inf
    return space.f_bavail * space.f_frsize


def _from_bytes(raw: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def _to_array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy()


@contextmanager
def _one_thread_environment() -> Generator[None]:
    """Limit the numeric libraries of processes started in this block to one thread."""
    kept = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
