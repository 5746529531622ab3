"""Prepare batches ahead of the training loop in worker processes, in order.

Flow: Stage.batch (a pure function of the step) -> worker process -> pipe -> reader thread -> loop.py.
The bytes of tensors and arrays go through the pipe as they are: no shared-memory files, whose space is small in
containers. A worker only ever prepares steps it was asked for, so memory is bounded.
"""

import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from sa2va.training.batches import put_arrays, take_arrays
from sa2va.training.seeding import seed_step

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


@dataclass(frozen=True)
class SeededSource:
    """Call a batch function with the random generators seeded for that step."""

    source: Callable[[int], Any]
    seed: int
    stage: str

    def __call__(self, step: int) -> Any:
        seed_step(self.seed, self.stage, step, salt=0)
        return self.source(step)


@dataclass(frozen=True)
class Failure:
    """What went wrong while a batch was prepared, in words that cross between processes."""

    kind: str  # name of the exception's class
    text: str
    is_value_error: bool = False
    trace: str = ""

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Describe an exception that is being handled."""
        text = " ".join(str(error).split())
        return cls(type(error).__name__, text, isinstance(error, ValueError), traceback.format_exc())

    def to_exception(self, step: int) -> Exception:
        """Return the exception for the training loop: bad input stays a ValueError."""
        if self.is_value_error:
            failure: Exception = ValueError(f"the batch of step {step} failed: {self.text}")
        else:
            failure = RuntimeError(f"the batch of step {step} failed: {self.kind}: {self.text}")
        failure.add_note(self.trace)
        return failure


class Prefetcher:
    """Iterate over (step, batch) for step in [first, last), prepared ahead by `num_workers` processes.

    Use as a context manager: leaving it ends the workers. An exception in the source is raised here at its step:
    a ValueError stays one, anything else becomes a RuntimeError; both carry the original traceback as a note.
    """

    def __init__(
        self, source: Callable[[int], Any], first: int, last: int, *, num_workers: int = 1, depth: int = 3
    ) -> None:
        """Start the workers.

        Args:
            source: step -> batch, a pure function; must be picklable when num_workers > 0. What it is bound to
                travels to each worker once, so it should not hold a model.
            first: first step.
            last: one past the last step.
            num_workers: processes; 0 prepares each batch inline.
            depth: batches in preparation or waiting, per worker.
        """
        self._source, self._first, self._last, self._depth = source, first, last, depth
        count = min(num_workers, max(0, last - first))
        self._workers = [_Worker(source, index) for index in range(count)]

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        count = len(self._workers)
        if not count:
            yield from self._inline()
            return
        ahead = self._depth * count
        for step in range(self._first, min(self._last, self._first + ahead)):
            self._workers[(step - self._first) % count].request(step)
        for step in range(self._first, self._last):
            worker = self._workers[(step - self._first) % count]
            batch = worker.result(step)
            if step + ahead < self._last:
                worker.request(step + ahead)
            yield step, batch

    def _inline(self) -> Iterator[tuple[int, Any]]:
        for step in range(self._first, self._last):
            try:
                batch = self._source(step)
            except Exception as error:
                raise Failure.of(error).to_exception(step) from error
            yield step, batch

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()
        self._workers = []


class _Worker:
    """The parent's end of one worker: requests out, a thread that collects the results."""

    def __init__(self, source: Callable[[int], Any], index: int) -> None:
        context = get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._results: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        name = f"batches-{index}"
        self._process = context.Process(target=_work, args=(far_end, source), name=name, daemon=True)
        try:
            with _one_thread_environment():
                self._process.start()
        except Exception as error:
            error.add_note("a stage's batch function must be picklable to run in a worker, or set num_workers to 0")
            raise
        far_end.close()
        self._thread = threading.Thread(target=self._collect, name=name, daemon=True)
        self._thread.start()

    def request(self, step: int) -> None:
        """Ask for the batch of a step."""
        try:
            self._connection.send(step)
        except OSError:
            pass  # the worker is gone: result() says so, at the right step

    def result(self, step: int) -> Any:
        """Wait for the batch that was asked for longest ago, which is that of `step`."""
        found, batch = self._results.get()
        if isinstance(batch, Failure):
            raise batch.to_exception(step)
        assert found == step, f"worker answered step {found}, expected {step}"
        return batch

    def close(self) -> None:
        """End the process and the thread."""
        self._process.terminate()
        self._process.join()
        self._thread.join()
        self._connection.close()

    def _collect(self) -> None:
        try:
            while True:
                step, batch, sizes = self._connection.recv()
                arrays = [np.empty(size, dtype=np.uint8) for size in sizes]
                for array in arrays:
                    _read_into(self._connection.fileno(), array.data)
                self._results.put((step, put_arrays(batch, arrays)))
        except (EOFError, OSError):
            self._process.join()
            self._results.put((-1, Failure("WorkerEnded", f"exit code {self._process.exitcode}")))
        except Exception as error:
            # the loop waits on this queue, so whatever went wrong must arrive there
            self._results.put((-1, Failure.of(error)))


def _work(connection: Connection, source: Callable[[int], Any]) -> None:
    """Answer requests until the parent goes away (the body of a worker process)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, and so is a closed terminal
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    step = -1
    try:
        while True:
            step = connection.recv()
            batch, arrays = take_arrays(source(step))
            connection.send((step, batch, [array.nbytes for array in arrays]))
            for array in arrays:
                _write_all(connection.fileno(), array.data)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        # everything must reach the parent, which raises it again at this step
        connection.send((step, Failure.of(error), []))


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _read_into(descriptor: int, view: memoryview) -> None:
    """Fill `view`; Connection.recv_bytes_into would copy everything twice more."""
    while view:
        count = os.readv(descriptor, [view])
        if not count:
            raise EOFError
        view = view[count:]


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _one_thread_environment() -> Generator[None]:
    """Let processes started in this block use one thread in every numeric library."""
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
