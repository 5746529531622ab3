"""Run models under torch's initial default dtype and device, whatever the caller has set.

Flow: checkpoints, training, inference, gaze -> plain_defaults, plain_inference.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0  # number of running blocks under our defaults, in all threads
_outside = torch.float32  # the caller's default dtype, restored after the last block


@contextmanager
def plain_defaults() -> Generator[None]:
    """Set torch's defaults to float32 and the CPU within a block or a function.

    Native classes use the defaults wherever they name no dtype or device, and in type promotion, which no argument
    controls. The default device is per thread and the default dtype is per process. If the dtype is not float32, the
    first block to start sets it and the last block to end restores the caller's.
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


def is_read_only(tensor: torch.Tensor) -> bool:
    """Return whether a tensor was made in inference mode and used after it: torch refuses to write it in place."""
    return tensor.is_inference() and not torch.is_inference_mode_enabled()
