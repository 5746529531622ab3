"""Open a picture or a video of any kind and decode its frames on demand.

Flow: path, PIL image, array, iterator, camera or address -> open_media -> Media -> frames -> model/.
    pictures.py and video.py decode files, arrays.py reads memory, streams.py iterators and live sources. Every limit
    is set in files/read_limits.py.
Shapes: T frames, K chosen frames, H W picture; a frame is uint8 (H, W, 3) in RGB order.
"""

import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.files import read_limits
from sa2va.files.read_limits import check_size
from sa2va.media.arrays import ArrayReader, as_frames, is_tensor
from sa2va.media.containers import kind_of
from sa2va.media.pictures import (
    AnimationReader,
    FolderReader,
    PicturesReader,
    decode_image,
    is_animation,
    read_picture,
)
from sa2va.media.streams import IteratorReader, LiveReader, is_address
from sa2va.media.video import VideoReader
from sa2va.types import Frame, Frames

FRAME_DIGITS = 5  # in the file name of a frame
NOT_ASKED_FOR = "a camera or an address is opened on request only; in Python pass allow_stream=True"
NO_PATHS = "paths, addresses and cameras are not opened here; give the content of the file, as bytes"
DEFAULT_FPS = 25.0  # for sources without a clock: arrays, folders and iterators


class Reader(Protocol):
    """Interface of a reader: properties of the source, and frames by increasing index."""

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
    """A picture or a video whose frames are decoded on demand.

    Iteration holds one frame at a time. A seekable source can be iterated any number of times, also by several readers
    at once; a stream can be iterated once.
    """

    def __init__(self, reader: Reader, path: Path | None = None) -> None:
        self._reader = reader
        self._path = path
        self._held: list[Frame] = []  # frames of a stream that peek has read and iteration has not
        self._rest: Iterator[Frame] | None = None

    @property
    def name(self) -> str:
        """Name of the source in messages: its path, or its kind."""
        return self._reader.name

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths that the frames so far were read from: a file, or a folder and its pictures."""
        return (*([self._path] if self._path else []), *getattr(self._reader, "files", ()))

    def frame_names(self, num_frames: int) -> list[str]:
        """Return file names for the first frames: those of a folder, else numbers such as 00007.png."""
        if isinstance(self._reader, PicturesReader):
            return [path.name for path in self._reader.files[:num_frames]]
        return [f"{index:0{FRAME_DIGITS}d}.png" for index in range(num_frames)]

    @property
    def height(self) -> int:
        return self._reader.height

    @property
    def width(self) -> int:
        return self._reader.width

    @property
    def fps(self) -> float:
        """Mean number of frames per second; DEFAULT_FPS if the source has no clock."""
        return self._reader.fps

    @property
    def num_frames(self) -> int | None:
        """Exact number of frames, T; None for a stream."""
        return self._reader.num_frames

    @property
    def times(self) -> NDArray[np.float64] | None:
        """Presentation times (T,), seconds from the first frame; None for a stream."""
        return self._reader.times

    def close(self) -> None:
        """Release the camera or the connection of a live source; other sources hold nothing between calls."""
        if isinstance(self._reader, LiveReader):
            self._reader.close()

    @property
    def seekable(self) -> bool:
        """Whether frames can be read by index."""
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
        """Return the first frames; a stream will still yield them.

        Args:
            number: largest number of frames, K.

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
            ValueError: there is no such frame, or the source is a stream.
        """
        return self.frames([index])[0]

    def frames(self, indices: Iterable[int]) -> Frames:
        """Return chosen frames, in the order given; an index may occur twice.

        Args:
            indices: K indices in 0..T-1.

        Returns:
            uint8 (K, H, W, 3).

        Raises:
            ValueError: there is no such frame, or the source is a stream.
        """
        wanted = [int(index) for index in indices]
        if self.num_frames is None:
            raise ValueError(f"{self.name}: a stream cannot be read by frame index; pass a file")
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
    allow_paths: bool = True,
    max_frames: int | None = None,
    max_pixels: int = read_limits.MAX_PIXELS,
    max_bytes: int = read_limits.MAX_BYTES,
) -> Media:
    """Open a picture or a video; a file is not kept open between calls.

    Args:
        source: one of
            a path: JPEG, PNG, WebP, AVIF, HEIC (extra `heic`), TIFF; MP4, MOV, MKV, GIF; a folder of frames;
            the content of such a file as bytes or BytesIO, kept in a temporary file while the Media lives;
            a PIL image; a Media, which is returned as it is;
            a NumPy array or a torch tensor, uint8 0..255 or float 0..1: (H, W) gray, (H, W, C) or (C, H, W), with T
            in front a clip; C is 1 (gray), 3 (RGB) or 4 (RGBA);
            an iterator of single frames, each a PIL image, an array or a tensor;
            with `allow_stream` the number of a camera, or an address (rtsp, rtsps, http, https).
            Frames are turned upright by EXIF or display matrix. Transparent parts become white. Colors of more than
            eight bits are scaled by the range that the file states, or else by one that a warning names.
        fps: frames per second of a source without a clock (array, folder, iterator); None = DEFAULT_FPS.
        allow_stream: whether a camera or the network may be used.
        allow_paths: False refuses paths, addresses and cameras, for untrusted sources.
        max_frames: maximum number of frames; a stream is refused when the first frame beyond it arrives. None =
            read_limits.MAX_FRAMES for files and arrays, no limit for streams.
        max_pixels: maximum H * W of a frame, checked before decoding. For video frames the limit is at most
            read_limits.MAX_VIDEO_PIXELS, since a decoder holds many frames.
        max_bytes: a larger file is an error.

    Raises:
        ValueError: the source is missing, empty, damaged, too large or of an unsupported type.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps {fps}: expected a positive number of frames a second")
    clock = fps or DEFAULT_FPS
    if isinstance(source, Media):
        return source
    if not allow_paths and (isinstance(source, str | os.PathLike) or is_address(source)):
        raise ValueError(f"media: {NO_PATHS}")
    if is_address(source):
        if not allow_stream:
            raise ValueError(f"media: {NOT_ASKED_FOR}")
        return Media(LiveReader(source, fps=clock, max_frames=max_frames, max_pixels=max_pixels))
    most, origin = read_limits.MAX_FRAMES if max_frames is None else max_frames, _origin(source)
    if isinstance(source, bytes | bytearray | memoryview | io.BytesIO):
        return Media(_open_content(source, clock, most, max_pixels, max_bytes))
    if isinstance(source, str | os.PathLike):
        return Media(_open_path(Path(source), clock, most, max_pixels, max_bytes), origin)
    if (reader := _open_memory(source, clock, most, max_pixels)) is not None:
        return Media(reader, origin)
    if isinstance(source, Iterator) and not isinstance(source, io.IOBase):
        return Media(IteratorReader(source, fps=clock, max_frames=max_frames, max_pixels=max_pixels))
    raise ValueError(f"media: {_complaint(source)}")


def open_frames(files: Sequence[Path], name: str) -> Media:
    """Open picture files as one clip, in the order given; a frame is decoded when it is read.

    Args:
        files: at least one.
        name: the clip, for messages.

    Raises:
        ValueError: a file is missing or damaged, or the pictures differ in size.
    """
    return Media(
        PicturesReader(
            files, name, fps=DEFAULT_FPS, max_pixels=read_limits.MAX_PIXELS, max_frames=read_limits.MAX_FRAMES
        )
    )


def _origin(source: Any) -> Path | None:
    """Return the path of a source: a file, an opened PIL image or a mapped array; None for others.

    Raises:
        ValueError: an empty path, which would mean the current folder.
    """
    if isinstance(source, str) and not source:
        raise ValueError("media: the name is empty; give a picture, a video or a folder of pictures")
    name = getattr(source, "filename", source)
    return Path(name) if isinstance(name, str | os.PathLike) and str(name) else None


def uniform_indices(num_frames: int, k: int, shift: float = 0.0) -> list[int]:
    """Choose k evenly spaced frames, all shifted alike; all of them if T <= k.

    Args:
        num_frames: T.
        k: number of indices.
        shift: common shift, -0.5 to 0.5 of the distance between two chosen frames; 0 = with the first and last frame.

    Returns:
        min(k, T) increasing indices: without a shift, the floor of linspace(0, T - 1, k).
    """
    if num_frames <= k:
        return list(range(num_frames))
    places = np.linspace(0, num_frames - 1, k)
    ranks = np.arange(k)
    indices = np.floor(places + shift * (num_frames - 1) / max(k - 1, 1)).astype(int)
    return np.clip(indices, ranks, num_frames - k + ranks).tolist()  # distinct, also where the shift leaves the clip


def _open_memory(source: Any, fps: float, max_frames: int, max_pixels: int) -> Reader | None:
    """Open a PIL image, an array or a tensor; return None for anything else."""
    if isinstance(source, Image.Image):
        check_size("image", source.height, source.width, max_pixels)
        return ArrayReader("image", decode_image(source, "image")[None], fps)
    name = "tensor" if is_tensor(source) else "array"
    frames = as_frames(source, name, max_pixels)
    if frames is None:
        return None
    if not 1 <= len(frames) <= max_frames:
        raise ValueError(f"{name}: {len(frames)} frames, expected 1..{max_frames}")
    return ArrayReader(name, frames, fps)


def _complaint(source: Any) -> str:
    """Describe what was expected instead of an unsupported source."""
    if isinstance(source, Sequence):
        return (
            "a list could mean one video or several pictures; stack it to (T, H, W, 3) for a video, "
            "or pass the pictures as Request(images=[...])"
        )
    advice = "; pass its path, or its content as bytes" if isinstance(source, io.IOBase) else ""
    return (
        "expected a path, bytes, a PIL image, an array, a tensor or an iterator of frames, "
        f"got {type(source).__name__}{advice}"
    )


def _open_path(path: Path, fps: float, max_frames: int, max_pixels: int, max_bytes: int) -> Reader:
    if os.path.isdir(path):  # Path.is_dir can raise
        return FolderReader(path, fps=fps, max_pixels=max_pixels, max_frames=max_frames)
    read_limits.require_regular_file(path, max_bytes)
    if kind_of(path) == "video":
        return VideoReader(path, max_pixels=max_pixels, max_frames=max_frames)
    if is_animation(path, max_pixels):
        return AnimationReader(path, max_pixels=max_pixels, max_frames=max_frames)
    return ArrayReader(str(path), read_picture(path, max_pixels)[None], fps)


def _open_content(
    source: bytes | bytearray | memoryview | io.BytesIO, fps: float, max_frames: int, max_pixels: int, max_bytes: int
) -> Reader:
    """Write the content of a file to a temporary file, which decoders can open repeatedly."""
    content = memoryview(source.getbuffer() if isinstance(source, io.BytesIO) else source)
    num_bytes = content.nbytes
    if not 0 < num_bytes <= max_bytes:
        raise ValueError(f"bytes: {num_bytes} of them, expected 1..{max_bytes}: the content of a picture or a video")
    folder = Path(tempfile.mkdtemp(prefix="sa2va-"))
    path = folder / "bytes"
    try:
        path.write_bytes(content)
        reader = _open_path(path, fps, max_frames, max_pixels, max_bytes)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, ValueError | OSError):
            raise
        raise ValueError(str(error).replace(str(path), path.name)) from None
    weakref.finalize(reader, shutil.rmtree, folder, ignore_errors=True)
    return reader
