"""Read frames from memory: NumPy arrays and torch tensors.

Flow: array, tensor -> as_frames -> ArrayReader -> frames, uint8 (H, W, 3) -> source.py.
Shapes: T frames, H W picture, C channels: 1 gray, 3 RGB, 4 RGBA.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.files.read_limits import check_size
from sa2va.media.pictures import on_white
from sa2va.types import Frame

CHANNELS = (3, 4, 1)
ROUNDING = 1e-5  # how far floats may lie outside 0..1, as after resizing
EXPECTED = "expected uint8 0..255 or float 0..1, (H, W), (H, W, C), (C, H, W) or with T in front, C one of 1, 3, 4"


class ArrayReader:
    """Frames in memory or in a memory-mapped file. Each is converted to RGB when it is read."""

    def __init__(self, name: str, frames: NDArray[Any], fps: float) -> None:
        self.name, self.fps, self._frames = name, fps, frames
        self.num_frames, self.height, self.width = frames.shape[:3]
        self.times = np.arange(self.num_frames) / fps  # (T,) seconds

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Yield the frames at these indices."""
        for index in indices:
            yield to_rgb(self._frames[index])


def is_tensor(source: Any) -> bool:
    """Recognize a torch tensor without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def as_frames(source: Any, name: str, max_pixels: int) -> NDArray[Any] | None:
    """View an array or a tensor as frames (T, H, W, C), values unchanged; return None for anything else.

    The channel axis of a frame has 1, 3 or 4 entries and is the last or the first one. If both axes qualify, a NumPy
    array with 3 entries in the last axis is read as channels-last. Any other array, and any tensor, is then ambiguous,
    which is an error.

    Args:
        source: uint8 0..255 or float 0..1; (H, W), (H, W, C), (C, H, W), (T, H, W, C) or (T, C, H, W).
        name: the source, for errors.
        max_pixels: a frame with more than this H * W is an error.

    Raises:
        ValueError: unsupported shape, type or range of values.
    """
    array = _dense(source) if is_tensor(source) else source
    if not isinstance(array, np.ndarray):
        return None
    got = f"got {array.dtype} {array.shape}"
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{name}: {EXPECTED}, {got}; scale it to uint8")
    if array.ndim == 2:
        frames = array[None, ..., None]
    elif array.ndim in (3, 4):
        last, first = array.shape[-1] in CHANNELS, array.shape[-3] in CHANNELS
        if last and first and (is_tensor(source) or array.shape[-1] != 3):
            raise ValueError(f"{name}: {got}: the channel axis is ambiguous; pass a NumPy array (..., H, W, 3)")
        if not last and not first:
            raise ValueError(f"{name}: {EXPECTED}, {got}")
        frames = array if last else np.moveaxis(array, -3, -1)
        frames = frames[None] if array.ndim == 3 else frames
    else:
        raise ValueError(f"{name}: {EXPECTED}, {got}")
    check_size(name, frames.shape[1], frames.shape[2], max_pixels)
    if array.dtype != np.uint8 and array.size:
        low, high = float(array.min()), float(array.max())
        if not (-ROUNDING <= low and high <= 1 + ROUNDING):
            raise ValueError(
                f"{name}: {array.dtype} values {low:.9g}..{high:.9g}, expected 0..1; scale them, or pass uint8 0..255"
            )
    return frames


def _dense(tensor: Any) -> NDArray[Any]:
    try:
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (NotImplementedError, RuntimeError, TypeError) as error:  # on device "meta", sparse, quantized
        raise ValueError(f"tensor: {str(error).splitlines()[0]}; {EXPECTED}, dense") from None


def to_rgb(frame: NDArray[Any]) -> Frame:
    """Convert a frame (H, W, C), uint8 or float 0..1, to uint8 (H, W, 3)."""
    if frame.dtype != np.uint8:
        frame = np.rint(frame.astype(np.float64).clip(0, 1) * 255).astype(np.uint8)
    if frame.shape[2] == 4:
        return on_white(Image.fromarray(np.ascontiguousarray(frame)))
    return np.ascontiguousarray(np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame)
