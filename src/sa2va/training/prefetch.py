"""Prepare batches ahead of the training loop in worker processes, in order.

Flow: Stage.batch (a pure function of the step) -> worker process -> pipe -> reader thread -> loop.py.
Tensors and arrays travel as raw bytes beside a small pickle (protocol 5, out of band): no shared-memory files, whose
space is small in containers. A worker only ever prepares steps it was asked for, so memory is bounded.
"""

import io
import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sa2va.training.seeding import seed_step

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
IN_BAND_BYTES = 4096  # smaller buffers are not worth a message of their own


@dataclass(frozen=True)
class SeededSource:
    """Call a batch function with the random generators seeded for that step."""

    source: Callable[[int], Any]
    seed: int
    stage: str

    def __call__(self, step: int) -> Any:
        seed_step(self.seed, self.stage, step, salt=0)
        return self.source(step)


class Prefetcher:
    """Iterate over (step, batch) for step in [first, last), prepared ahead by `num_workers` processes.

    Use as a context manager: leaving it ends the workers. An exception in the source is raised here at its step:
    a ValueError stays one, anything else becomes a RuntimeError; both carry the worker's traceback as a note.
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
        self._workers: list[_Worker] = []
        if num_workers and first < last:
            try:
                payload = pickle.dumps(source, protocol=5)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                raise TypeError(f"a batch function must be picklable to run in a worker: {error}") from error
            self._workers = [_Worker(payload, index) for index in range(min(num_workers, last - first))]

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        count = len(self._workers)
        for step in range(self._first, min(self._last, self._first + self._depth * count)):
            self._workers[(step - self._first) % count].request(step)
        for step in range(self._first, self._last):
            if not count:
                yield step, self._source(step)
                continue
            worker = self._workers[(step - self._first) % count]
            batch = worker.result(step)
            if step + self._depth * count < self._last:
                worker.request(step + self._depth * count)
            yield step, batch

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()
        self._workers = []


class _Worker:
    """The parent's end of one worker: requests out, a thread that collects the results."""

    def __init__(self, payload: bytes, index: int) -> None:
        context = get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._results: queue.SimpleQueue[tuple[int, Any, str, str]] = queue.SimpleQueue()
        self._process: BaseProcess = context.Process(
            target=_work, args=(far_end, payload), name=f"batches-{index}", daemon=True
        )
        with _one_thread_environment():
            self._process.start()
        far_end.close()
        self._thread = threading.Thread(target=self._collect, name=f"batches-{index}", daemon=True)
        self._thread.start()

    def request(self, step: int) -> None:
        try:
            self._connection.send(step)
        except OSError:
            pass  # the worker is gone: result() says so, at the right step

    def result(self, step: int) -> Any:
        found, batch, error, trace = self._results.get()
        if error:
            kind, _, text = error.partition(": ")
            message = f"the batch of step {step} failed: {text if kind == 'ValueError' else error}"
            failure = ValueError(message) if kind == "ValueError" else RuntimeError(message)
            failure.add_note(trace)
            raise failure
        assert found == step, f"worker answered step {found}, expected {step}"
        return batch

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
        self._thread.join()
        self._connection.close()

    def _collect(self) -> None:
        try:
            while True:
                step, body, sizes, error, trace = self._connection.recv()
                buffers = [np.empty(size, dtype=np.uint8) for size in sizes]
                for buffer in buffers:
                    _read_into(self._connection.fileno(), memoryview(buffer))
                batch = pickle.loads(body, buffers=buffers) if not error else None
                self._results.put((step, batch, error, trace))
                if error:
                    return
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self._results.put((-1, None, f"RuntimeError: the worker process ended with exit code {code}", ""))
        except Exception as error:
            # the loop waits on this queue, so whatever went wrong must arrive there
            self._results.put((-1, None, f"RuntimeError: {type(error).__name__}: {error}", traceback.format_exc()))


def _work(connection: Connection, payload: bytes) -> None:
    """Answer requests until the parent goes away (the body of a worker process)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    step = -1
    try:
        source: Callable[[int], Any] | None = None
        while True:
            step = connection.recv()
            if source is None:
                source = pickle.loads(payload)
            body, buffers = encode_batch(source(step))
            connection.send((step, body, [buffer.nbytes for buffer in buffers], "", ""))
            for buffer in buffers:
                _write_all(connection.fileno(), buffer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        # everything must reach the parent, which raises it again at this step
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        kind = "ValueError" if isinstance(error, ValueError) else "RuntimeError"
        line = text if kind == type(error).__name__ else f"{kind}: {text}"
        connection.send((step, b"", [], line, traceback.format_exc()))


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


class _BatchPickler(pickle.Pickler):
    """Pickle CPU tensors as byte arrays, whose bytes travel out of band."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Tensor and obj.device.type == "cpu" and obj.layout == torch.strided:
            raw = obj.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            return _to_tensor, (raw, obj.dtype, tuple(obj.shape))
        return NotImplemented


def _to_tensor(raw: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(raw).view(dtype).reshape(shape)


def encode_batch(batch: Any) -> tuple[bytes, list[memoryview]]:
    """Return a small pickle of a batch and the raw bytes of its large tensors and arrays."""
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < IN_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    stream = io.BytesIO()
    _BatchPickler(stream, protocol=5, buffer_callback=keep).dump(batch)
    return stream.getvalue(), buffers
