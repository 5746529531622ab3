"""Run a batch, and its halves where it does not fit the memory or where one of its items fails.

Flow: engine.py: items, function of a batch -> one result or error per item.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

ADVICE = "the memory does not suffice for this request; ask about a smaller or shorter input, or free memory"
_ALLOCATOR = re.compile(r"not enough memory|can't allocate", re.IGNORECASE)  # what torch's CPU allocator says


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out on a GPU or in RAM."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATOR.search(str(error)) is not None


@contextmanager
def advise_on_memory() -> Generator[None]:
    """Turn memory that runs out within a block or a function into a ValueError that says what to do."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(ADVICE) from None


def run_halving(run: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | ValueError]:
    """Run a batch; where it fails, run its halves, so that only what fails alone has an error.

    Args:
        run: takes a batch and returns one result per item.
        items: the batch.

    Returns:
        A result per item, or the ValueError of an item that failed alone.
    """
    if not items:
        return []
    try:
        with advise_on_memory():
            return list(run(items))
    except ValueError as caught:
        error = caught.with_traceback(None)  # its frames would hold the tensors that did not fit
    if len(items) == 1:
        return [error]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return [*run_halving(run, items[:middle]), *run_halving(run, items[middle:])]
