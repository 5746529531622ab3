"""Build and run models as if torch's default dtype and device had never been changed.

Flow: checkpoint.py, predictor.py, session.py, gaze -> plain_defaults.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0  # how many calls run under our defaults, in all threads
_outside = torch.float32  # the default that comes back after the last of them


@contextmanager
def plain_defaults() -> Generator[None]:
    """Make float32 and the CPU torch's defaults within a block or a function, whatever the caller has set.

    Native classes take these defaults where they name none. The default dtype is one for all threads, so the first
    call in sets it and the last one out brings the caller's back; the default device is one for each thread.
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
    """Do as `plain_defaults`, and record nothing for gradients."""
    with plain_defaults(), torch.no_grad():
        yield
