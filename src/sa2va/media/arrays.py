"""Read frames that are in memory already: arrays, tensors and iterators of them.

Flow: NumPy array, torch tensor, PIL image, iterator -> ArrayReader, IteratorReader -> frames -> media.py.
Shapes: T frames, H W picture, C channels: 1 gray, 3 RGB, 4 RGBA.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.files.read_limits import check_size
from sa2va.media.pictures import decode_image, on_white

Frame = NDArray[np.uint8]  # (H, W, 3)

CHANNELS = (3, 4, 1)
ROUNDING = 1e-5  # beyond 0..1 that floats may lie, as resizing leaves them
EXPECTED = "expected uint8 0..255 or float 0..1, (H, W), (H, W, C), (C, H, W) or with T in front, C one of 1, 3, 4"


class ArrayReader:
    """Frames that are in memory already, or in a memory-mapped file; each is brought to RGB when it is read."""

    def __init__(self, name: str, frames: NDArray[Any], fps: float) -> None:
        self.name, self.fps, self._frames = name, fps, frames
        self.num_frames, self.height, self.width = frames.shape[:3]
        self.times = np.arange(self.num_frames) / fps  # (T,) seconds

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            yield _to_rgb(self._frames[index])


class IteratorReader:
    """Frames that someone else makes, such as a camera: one pass, no length. The first one is taken at once."""

    num_frames = None
    times = None

    def __init__(self, source: Iterator[Any], fps: float, max_frames: int | None, max_pixels: int) -> None:
        self.name, self.fps, self._max_frames = "iterator of frames", fps, max_frames
        first = next(source, None)
        if first is None:
            raise ValueError("iterator of frames: it ended before the first frame")
        self._max_pixels, self.height, self.width = max_pixels, 0, 0
        self.files: list[Path] = []  # that the frames so far were opened from
        self._first: Frame | None = self._checked(first, 0)
        self.height, self.width = self._first.shape[:2]
        self._source = source

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        if self._first is None:
            raise ValueError(f"{self.name}: it can be read once only; pass a file or an array to read it again")
        first, self._first = self._first, None
        return chain([first], self._rest())

    def _rest(self) -> Iterator[Frame]:
        for index, frame in enumerate(self._source, 1):
            if self._max_frames is not None and index >= self._max_frames:
                raise ValueError(f"{self.name}: more than the {self._max_frames} frames allowed")
            yield self._checked(frame, index)

    def _checked(self, frame: Any, index: int) -> Frame:
        name = f"{self.name}: frame {index}"
        if isinstance(frame, Image.Image):
            check_size(name, frame.height, frame.width, self._max_pixels)
            if file := getattr(frame, "filename", ""):
                self.files.append(Path(file))
            picture = decode_image(frame, name)
        else:
            array = as_array(frame)
            if array is None:
                raise ValueError(f"{name}: {EXPECTED}, got {type(frame).__name__}")
            frames = as_frames(array, name, self._max_pixels, is_tensor=is_tensor(frame))
            if array.ndim > 3:
                raise ValueError(f"{name}: expected one frame, got {array.dtype} {array.shape}")
            picture = _to_rgb(frames[0])
        if self.height and picture.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"{name} is {picture.shape[1]}x{picture.shape[0]}, the first one was {self.width}x{self.height}"
            )
        return picture.copy()  # the source may draw the next frame into the same memory


def is_tensor(source: Any) -> bool:
    """Tell a torch tensor, without importing torch for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def as_array(source: Any) -> NDArray[Any] | None:
    """Return an array or a tensor as an array, else None."""
    if is_tensor(source):
        try:
            tensor = source.detach().cpu()
            return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (NotImplementedError, RuntimeError, TypeError) as error:  # on device "meta", sparse, quantized
            raise ValueError(f"tensor: {str(error).splitlines()[0]}; {EXPECTED}, dense") from None
    return source if isinstance(source, np.ndarray) else None


def as_frames(array: NDArray[Any], name: str, max_pixels: int, *, is_tensor: bool) -> NDArray[Any]:
    """Return an array as frames (T, H, W, C), unconverted.

    The channels are the last axis, or the first one of a frame where only that fits. Of an array whose both ends
    fit, the last axis counts where it has three entries; of a tensor the meaning is not plain.

    Args:
        array: uint8 0..255 or float 0..1; (H, W), (H, W, C), (C, H, W), (T, H, W, C) or (T, C, H, W).
        name: of the source, for errors.
        max_pixels: a frame with more than this H * W is an error.
        is_tensor: whether it was a tensor, whose channels by custom come first.

    Raises:
        ValueError: another shape or type, or numbers outside the range.
    """
    got = f"got {array.dtype} {array.shape}"
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{name}: {EXPECTED}, {got}; scale it to uint8")
    if array.ndim == 2:
        frames = array[None, ..., None]
    elif array.ndim in (3, 4):
        last, first = array.shape[-1] in CHANNELS, array.shape[-3] in CHANNELS
        if last and first and (is_tensor or array.shape[-1] != 3):
            raise ValueError(f"{name}: {got}: either end could be the channels; make them the last of more pixels")
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


def _to_rgb(frame: NDArray[Any]) -> Frame:
    """Convert one frame (H, W, C), uint8 or float 0..1, to uint8 (H, W, 3)."""
    if frame.dtype != np.uint8:
        frame = np.rint(frame.astype(np.float64).clip(0, 1) * 255).astype(np.uint8)
    if frame.shape[2] == 4:
        return on_white(Image.fromarray(np.ascontiguousarray(frame)))
    return np.ascontiguousarray(np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame)
