"""Run a batch; if it fails or runs out of memory, run its halves.

Flow: engine.py, predictor.py: items, function of a batch -> run_halving -> one result or error per item.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

ADVICE = "out of memory for this request; use a smaller or shorter input, or free memory"
_ALLOCATOR = re.compile(r"not enough memory|can't allocate", re.IGNORECASE)  # messages of torch's CPU allocator


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on a GPU or in RAM."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATOR.search(str(error)) is not None


@contextmanager
def advise_on_memory() -> Generator[None]:
    """Convert out-of-memory errors to a ValueError with advice (context manager and decorator)."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(ADVICE) from None


def run_halving(run: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | ValueError]:
    """Run a batch; if it fails, run its halves, so that only items that fail by themselves get an error.

    Args:
        run: takes a batch and returns one result per item.
        items: the batch.

    Returns:
        Per item a result, or its ValueError if it failed by itself.
    """
    if not items:
        return []
    try:
        with advise_on_memory():
            return list(run(items))
    except ValueError as caught:
        error = caught.with_traceback(None)  # drop the traceback, which keeps tensors in memory
    if len(items) == 1:
        return [error]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return [*run_halving(run, items[:middle]), *run_halving(run, items[middle:])]
