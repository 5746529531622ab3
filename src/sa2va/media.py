"""Open whatever a user calls a picture or a video, and give out its frames lazily.

Flow: path, PIL image, array, iterator, camera or address -> open_media -> Media -> frames -> model/.
    Files are decoded by pictures.py and video.py, streams by live.py; every cap on pixels, frames and bytes is set
    here.
Shapes: T frames, K chosen frames, H W picture; a frame is uint8 (H, W, 3) in RGB order.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.live import LiveReader, is_address
from sa2va.pictures import (
    AnimationReader,
    FolderReader,
    check_size,
    decode_picture,
    is_animation,
    read_picture,
    save_image,
)
from sa2va.types import Frames
from sa2va.video import HEAD_BYTES, is_video, open_video
from sa2va.video_writer import VideoWriter

__all__ = ["Media", "VideoWriter", "open_media", "save_image", "uniform_indices"]

Frame = NDArray[np.uint8]  # (H, W, 3)

DEFAULT_FPS = 25.0  # for sources without a clock: arrays, folders and iterators
MAX_PIXELS = 89_478_485  # per frame; the size beyond which Pillow, too, speaks of a bomb
MAX_FRAMES = 1_000_000  # of a file, nine hours at 30 frames a second; frames are never held together
MAX_BYTES = 64 * 2**30  # per file


class Reader(Protocol):
    """What a kind of source has to offer to become a Media: constants, and frames by increasing index."""

    @property
    def name(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def fps(self) -> float: ...
    @property
    def num_frames(self) -> int | None: ...
    @property
    def times(self) -> NDArray[np.float64] | None: ...
    def read(self, indices: Iterable[int]) -> Iterator[Frame]: ...


class Media:
    """A picture or a video whose frames are decoded when they are asked for.

    Iterating decodes as it goes and holds one frame at a time. A seekable source can be iterated any number
    of times, also by several readers at once; an iterator is passed through once.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._held: list[Frame] = []  # of a source without a length: seen by peek, and still to come
        self._rest: Iterator[Frame] | None = None

    @property
    def name(self) -> str:
        """How the source is called in messages: its path, or its kind."""
        return self._reader.name

    @property
    def height(self) -> int:
        return self._reader.height

    @property
    def width(self) -> int:
        return self._reader.width

    @property
    def fps(self) -> float:
        """Mean number of frames a second; DEFAULT_FPS where the source has no clock."""
        return self._reader.fps

    @property
    def num_frames(self) -> int | None:
        """Exact number of frames, T; None for an iterator or a live source."""
        return self._reader.num_frames

    @property
    def times(self) -> NDArray[np.float64] | None:
        """When each frame is shown, (T,) seconds from the first one; None where the length is not known."""
        return self._reader.times

    def close(self) -> None:
        """Hand back the camera or the connection of a live source; nothing else is held between calls."""
        if isinstance(self._reader, LiveReader):
            self._reader.close()

    @property
    def seekable(self) -> bool:
        """Whether frames can be asked for by index."""
        return self.num_frames is not None

    @property
    def is_image(self) -> bool:
        """Whether there is exactly one frame."""
        return self.num_frames == 1

    def __iter__(self) -> Iterator[Frame]:
        if self.num_frames is not None:
            return self._reader.read(range(self.num_frames))
        rest = self._reader.read(()) if self._rest is None else self._rest
        held, self._held, self._rest = self._held, [], None
        return chain(held, rest) if held else rest

    def peek(self, number: int) -> Frames:
        """Return the first frames without using them up, from a source without a length too.

        Args:
            number: K, at most.

        Returns:
            uint8 (K, H, W, 3).
        """
        if self.num_frames is not None:
            return self.frames(range(min(number, self.num_frames)))
        if self._rest is None:
            self._rest = self._reader.read(())
        self._held += islice(self._rest, max(number - len(self._held), 0))
        return np.stack(self._held[:number])

    def frame(self, index: int) -> Frame:
        """Return frame `index` as uint8 (H, W, 3).

        Raises:
            ValueError: there is no such frame, or the source is an iterator.
        """
        return self.frames([index])[0]

    def frames(self, indices: Iterable[int]) -> Frames:
        """Return chosen frames, in the order given; an index may come twice.

        Args:
            indices: K indices in 0..T-1.

        Returns:
            uint8 (K, H, W, 3).

        Raises:
            ValueError: there is no such frame, or the source is an iterator.
        """
        wanted = [int(index) for index in indices]
        if self.num_frames is None:
            raise ValueError(f"{self.name}: frames come one after the other and cannot be asked for; pass a file")
        for index in wanted:
            if not 0 <= index < self.num_frames:
                raise ValueError(f"{self.name}: there is no frame {index}, only 0..{self.num_frames - 1}")
        out = np.empty((len(wanted), self.height, self.width, 3), np.uint8)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(wanted):
            places.setdefault(index, []).append(place)
        ordered = sorted(places)
        for index, frame in zip(ordered, self._reader.read(ordered), strict=True):
            out[places[index]] = frame
        return out

    def __repr__(self) -> str:
        return f"Media({self.name!r}, {self.num_frames} frames of {self.width}x{self.height}, {self.fps:g} fps)"


def open_media(
    source: Any,
    *,
    fps: float | None = None,
    allow_stream: bool = False,
    max_frames: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Media:
    """Open a picture or a video.

    Args:
        source: path (JPEG, PNG, WebP, AVIF; MP4, MOV, MKV, GIF; a folder of frames), PIL image, uint8 array
            (H, W, 3) or (T, H, W, 3), an iterator of (H, W, 3) frames, or a Media, which is returned as it is.
            With `allow_stream` also the number of a camera, or an address (rtsp, rtsps, http, https).
        fps: frames a second of a source without a clock (array, folder, iterator); DEFAULT_FPS when None.
        allow_stream: whether a camera or the network may be used.
        max_frames: more frames are an error; of a source without a length, the error comes with the first frame too
            many. None = MAX_FRAMES, and no bound where frames come one by one.
        max_pixels: a frame with more than this H * W is an error, raised before it is decoded.
        max_bytes: a larger file is an error.

    Returns:
        The opened media. Of a file, nothing is kept open between calls.

    Raises:
        ValueError: the source is missing, empty, damaged, too large or of a type that is not supported.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps {fps}: expected a positive number of frames a second")
    clock = fps or DEFAULT_FPS
    if isinstance(source, Media):
        return source
    if is_address(source):
        if not allow_stream:
            raise ValueError(
                "media: a camera or an address is opened on request only; in Python pass allow_stream=True"
            )
        return Media(LiveReader(source, fps=clock, max_frames=max_frames, max_pixels=max_pixels))
    most = MAX_FRAMES if max_frames is None else max_frames
    if isinstance(source, str | Path):
        return Media(_open_path(Path(source), clock, most, max_pixels, max_bytes))
    if isinstance(source, Image.Image):
        check_size("image", source.height, source.width, max_pixels)
        return Media(ArrayReader("image", decode_picture(source, Path("image"))[None], clock))
    if isinstance(source, np.ndarray):
        return Media(_open_array(source, clock, most, max_pixels))
    if isinstance(source, Iterator):
        return Media(IteratorReader(source, clock, max_frames, max_pixels))
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        raise ValueError(
            "media: a list could mean one video or several pictures; stack it to (T, H, W, 3) for a video, "
            "or pass the pictures as Request(images=[...])"
        )
    raise ValueError(
        f"media: expected a path, a PIL image, a uint8 array or an iterator of frames, got {type(source).__name__}"
    )


def uniform_indices(num_frames: int, k: int) -> list[int]:
    """Spread k indices evenly over a video, first and last frame included; all of them where T <= k.

    Args:
        num_frames: T.
        k: how many indices to choose.

    Returns:
        Increasing indices, the floor of linspace(0, T - 1, k) without repetitions.
    """
    return np.unique(np.linspace(0, num_frames - 1, k).astype(int)).tolist() if num_frames else []


class ArrayReader:
    """Frames that are in memory already, or in a memory-mapped file."""

    def __init__(self, name: str, frames: Frames, fps: float) -> None:
        self.name, self.fps, self._frames = name, fps, frames
        self.num_frames, self.height, self.width = frames.shape[:3]
        self.times = np.arange(self.num_frames) / fps  # (T,) seconds

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            yield np.ascontiguousarray(self._frames[index])


class IteratorReader:
    """Frames that someone else makes, such as a camera: one pass, no length. The first one is taken at once."""

    num_frames = None
    times = None

    def __init__(self, source: Iterator[Any], fps: float, max_frames: int | None, max_pixels: int) -> None:
        self.name, self.fps, self._max_frames = "iterator of frames", fps, max_frames
        first = next(source, None)
        if first is None:
            raise ValueError("iterator of frames: it ended before the first frame")
        _check_frame(first, 0, None)
        self.height, self.width = first.shape[:2]
        check_size(self.name, self.height, self.width, max_pixels)
        self._source: Iterator[Any] | None = chain([first.copy()], source)

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        if self._source is None:
            raise ValueError(f"{self.name}: it can be read once only; pass a file or an array to read it again")
        source, self._source = self._source, None
        return self._checked(source)

    def _checked(self, source: Iterator[Any]) -> Iterator[Frame]:
        for index, frame in enumerate(source):
            if self._max_frames is not None and index >= self._max_frames:
                raise ValueError(f"{self.name}: more than the {self._max_frames} frames allowed")
            _check_frame(frame, index, (self.height, self.width))
            yield frame.copy()  # the source may draw the next frame into the same memory


def _check_frame(frame: Any, index: int, size: tuple[int, int] | None) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"iterator of frames: frame {index}: expected a uint8 array (H, W, 3), got {got}")
    if size is not None and frame.shape[:2] != size:
        raise ValueError(
            f"iterator of frames: frame {index} is {frame.shape[1]}x{frame.shape[0]}, "
            f"the first one was {size[1]}x{size[0]}"
        )


def _open_array(array: NDArray[Any], fps: float, max_frames: int, max_pixels: int) -> Reader:
    frames = array[None] if array.ndim == 3 else array
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"array: expected uint8 (H, W, 3) or (T, H, W, 3) with values 0..255, got {array.dtype} {array.shape}"
        )
    if not 1 <= len(frames) <= max_frames:
        raise ValueError(f"array: {len(frames)} frames, expected 1..{max_frames}")
    check_size("array", frames.shape[1], frames.shape[2], max_pixels)
    return ArrayReader("array", frames, fps)


def _open_path(path: Path, fps: float, max_frames: int, max_pixels: int, max_bytes: int) -> Reader:
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if path.is_dir():
        return FolderReader(path, fps=fps, max_pixels=max_pixels, max_frames=max_frames)
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file; save the media to a file first")
    num_bytes = path.stat().st_size
    if not num_bytes:
        raise ValueError(f"{path}: the file is empty")
    if num_bytes > max_bytes:
        raise ValueError(f"{path}: {num_bytes} bytes are more than the {max_bytes} allowed")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ValueError(f"{path}: the file cannot be opened ({error.strerror})") from None
    if is_video(head):
        return open_video(path, max_pixels=max_pixels, max_frames=max_frames)
    if is_animation(path, max_pixels):
        return AnimationReader(path, max_pixels=max_pixels, max_frames=max_frames)
    return ArrayReader(str(path), read_picture(path, max_pixels)[None], fps)
