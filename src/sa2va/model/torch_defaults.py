"""Run models under torch's own default dtype and device, whatever the caller has set.

Flow: checkpoints, training, inference, gaze -> plain_defaults, plain_inference.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0  # calls that run under our defaults, in all threads
_outside = torch.float32  # the caller's default, restored after the last of them


@contextmanager
def plain_defaults() -> Generator[None]:
    """Make float32 and the CPU torch's defaults within a block or a function.

    Native classes use these defaults where they name no dtype or device, also in type promotion, which no argument
    reaches. The default device belongs to a thread. The default dtype belongs to the process: nothing is set where it
    is float32, as almost always; else the first call sets it and the last one to end restores the caller's.
    """
    global _inside, _outside
    with _lock:
        if not _inside:
            _outside = torch.get_default_dtype()
            if _outside != torch.float32:
                torch.set_default_dtype(torch.float32)
        _inside += 1
    try:
        if torch.get_default_device().type == "cpu":
            yield
        else:
            with torch.device("cpu"):
                yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _outside != torch.float32:
                torch.set_default_dtype(_outside)


@contextmanager
def plain_inference() -> Generator[None]:
    """Combine `plain_defaults` and `torch.no_grad`."""
    with plain_defaults(), torch.no_grad():
        yield
