"""Limit the cost of reading a file: its kind, bytes, pixels, frames and seconds.

Flow: a path -> require_regular_file, read_bounded -> content; counts of a reader -> check_size, check_work, watched ->
    a ValueError in one line that names the file, the amount and the limit. Every limit is set here.
"""

import os
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

MAX_PIXELS = 89_478_485  # per picture; Pillow's own limit against decompression bombs
MAX_VIDEO_PIXELS = 8192 * 4352  # per video frame: level 6.2 of H.264 and HEVC; a decoder holds up to 17 frames
MAX_FRAMES = 1_000_000  # nine hours at 30 frames per second
MAX_BYTES = 64 * 2**30  # per video
MAX_PICTURE_BYTES = 2**30  # per picture or animation, which is read whole; enough for MAX_PIXELS of 8 bytes
MAX_HEADER_BYTES = 2**24  # before the pixels: thumbnails, profiles, descriptions
MAX_HEADER_READS = 2**14  # read calls for the header; dozens are usual
MAX_COMMENT_BYTES = 2**21  # per GIF, profiles included; Pillow collects them in quadratic time
MAX_ENTRIES = 1_000_000  # per folder
MAX_SCANS = 500  # per progressive JPEG, as in the tests of libjpeg-turbo; about ten are usual
MAX_DATA_BYTES = 2**28  # per file of records or arrays, packed and unpacked; ten times the largest public ones
MAX_OPEN_SECONDS = 600.0  # to open one source
REMARK_SECONDS = 2.0  # until the first progress warning; the interval doubles after each

# Pixels that may be decoded just to open a source. A small file needs few, whatever its header says.
FREE_WORK, WORK_PER_BYTE, MAX_WORK = 2**28, 1000, 2**33
VIDEO_WORK_PER_BYTE = 4096  # px per byte if frames are counted by decoding; skipped MPEG-4 frames reach half
MIN_WORK = 2**16  # px, least cost of a frame
MAX_TEXT_PIXELS = 2**24  # per picture written as decimal numbers

Item = TypeVar("Item")


def require_regular_file(path: str | Path, max_bytes: int = MAX_BYTES) -> int:
    """Check that a path is a regular file, following links, without opening it: opening a pipe would block.

    Args:
        path: the file.
        max_bytes: a larger file is an error.

    Returns:
        Its size in bytes, at least 1.

    Raises:
        ValueError: the path is missing, a folder, a pipe, a socket or a device, or the file is empty or too large.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {_why_not(error)}") from None
    return _check_status(path, status, max_bytes)


def read_bounded(path: str | Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`.

    Raises:
        ValueError: as require_regular_file, or the file cannot be read.
    """
    require_regular_file(path, max_bytes)  # opening a device may have side effects
    try:
        # Another file may have taken the name since, so check again what was opened, without blocking.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            size = _check_status(path, os.fstat(file.fileno()), max_bytes)
            content = file.read(size + 1)  # not more: Python allocates the requested size
    except OSError as error:
        raise ValueError(f"{path}: {_why_not(error)}") from None
    if len(content) > size:
        raise ValueError(f"{path}: it grew while it was read; wait until it is written")
    return content


def read_head(path: str | Path, num_bytes: int) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        ValueError: the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            return file.read(num_bytes)
    except OSError as error:
        raise ValueError(f"{path}: {_why_not(error)}") from None


def check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture with no pixels or with too many of them."""
    if height < 1 or width < 1:
        raise ValueError(f"{name}: the picture is {width}x{height}, it needs at least one pixel")
    if height * width > max_pixels:
        raise ValueError(f"{name}: {width}x{height} is more than {max_pixels} pixels; make the picture smaller")


def check_work(
    name: str,
    height: int,
    width: int,
    passes: int,
    num_bytes: int,
    what: str = "frames",
    *,
    per_byte: int = WORK_PER_BYTE,
    most: float = MAX_WORK,
) -> None:
    """Refuse to decode more pixels to open a file than its size can justify.

    Args:
        name: the file, for the error.
        height, width: of a frame, px.
        passes: how often H x W pixels are decoded: frames of an animation, scans of a JPEG.
        num_bytes: size of the file.
        what: what `passes` counts, in the plural.
        per_byte: allowed pixels per byte of the file.
        most: allowed pixels for a file of any size.

    Raises:
        ValueError: too many pixels.
    """
    allowed = min(FREE_WORK + per_byte * num_bytes, most)
    if max(height * width, MIN_WORK) * passes > allowed:
        raise ValueError(
            f"{name}: {passes} {what} of {width}x{height} are more than a file of {num_bytes} bytes may hold "
            f"({allowed} pixels); cut it into pieces or make it smaller"
        )


def check_frames(name: str, num_frames: int, max_frames: int) -> None:
    """Refuse a clip of too many frames."""
    if num_frames > max_frames:
        raise ValueError(f"{name}: more than the {max_frames} frames allowed; cut it into pieces")


def list_folder(path: Path) -> list[Path]:
    """List a folder of at most MAX_ENTRIES entries.

    Raises:
        ValueError: the folder cannot be read or has more entries.
    """
    entries = []
    try:
        for entry in os.scandir(path):
            entries.append(path / entry.name)
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"{path}: more than the {MAX_ENTRIES} entries allowed in a folder; divide it")
    except OSError as error:
        raise ValueError(f"{path}: {_why_not(error)}") from None
    return entries


def watched(items: Iterable[Item], name: str, what: str, total: int | None = None) -> Iterator[Item]:
    """Yield items while a source is opened; warn about the progress, and stop after MAX_OPEN_SECONDS.

    Args:
        items: frames or files to go through.
        name: the source, for messages.
        what: what is counted, such as "pictures checked".
        total: number of items, if known.

    Raises:
        ValueError: it took too long.
    """
    start, patience = time.monotonic(), REMARK_SECONDS
    for done, item in enumerate(items, 1):
        yield item
        passed = time.monotonic() - start
        if passed > MAX_OPEN_SECONDS:
            raise ValueError(
                f"{name}: opening it takes more than {MAX_OPEN_SECONDS:g} s ({done} {what}); "
                "cut it into pieces, or convert it to MP4 (H.264)"
            )
        if passed > patience:
            patience *= 2
            of = "" if total is None else f" of {total}"
            warnings.warn(f"{name}: {done}{of} {what} after {passed:.0f} s", stacklevel=1)


def _check_status(path: str | Path, status: os.stat_result, max_bytes: int) -> int:
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{path}: it is a folder; expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: not a regular file; save its content to a file first")
    if not status.st_size:
        raise ValueError(f"{path}: the file is empty")
    if status.st_size > max_bytes:
        raise ValueError(f"{path}: {status.st_size} bytes are more than the {max_bytes} allowed")
    return status.st_size


def _why_not(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file or folder"
    return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
