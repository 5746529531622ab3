"""Bound what reading a file may cost: kind of file, bytes, pixels, frames and seconds.

Flow: a path -> require_regular_file, read_bounded -> its content; what a reader counts -> check_size, check_work,
    watched -> a ValueError in one line that names the file, the amount and the bound. Every cap is set here.
"""

import os
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

MAX_PIXELS = 89_478_485  # of a picture; the size beyond which Pillow, too, speaks of a bomb
MAX_VIDEO_PIXELS = 8192 * 4352  # of a video frame: level 6.2 of H.264 and HEVC. A decoder holds up to 17 frames
MAX_FRAMES = 1_000_000  # nine hours at 30 frames a second; frames are never held together
MAX_BYTES = 64 * 2**30  # of a video
MAX_PICTURE_BYTES = 2**30  # of a picture or an animation, which is held whole: MAX_PIXELS with 8 bytes each fit
MAX_HEADER_BYTES = 2**24  # of all that precedes the pixels: thumbnails, profiles, descriptions
MAX_HEADER_READS = 2**14  # pieces that it is read in; usual are dozens
MAX_COMMENT_BYTES = 2**21  # of a GIF, profiles included; Pillow collects them in quadratic time
MAX_ENTRIES = 1_000_000  # of a folder
MAX_SCANS = 500  # of a progressive JPEG; it needs about ten. The bound of libjpeg-turbo's own tests
MAX_DATA_BYTES = 2**28  # of a file of records or arrays, packed and unpacked; the largest public ones have a tenth
MAX_OPEN_SECONDS = 600.0  # to open one source
REMARK_SECONDS = 2.0  # of silence; then twice as long, and so on

# Pixels that are decoded only to open a source. A small file has no use for many, whatever its header says.
FREE_WORK, WORK_PER_BYTE, MAX_WORK = 2**28, 1000, 2**33
VIDEO_WORK_PER_BYTE = 4096  # of a video that has to be decoded to be counted; MPEG-4 says "as before" in half of it
MIN_WORK = 2**16  # px; what a frame costs however small it is
MAX_TEXT_PIXELS = 2**24  # of a picture written as decimal numbers

Item = TypeVar("Item")


def require_regular_file(path: str | Path, max_bytes: int = MAX_BYTES) -> int:
    """Refuse whatever is not a regular file, links followed, without opening it: a pipe would wait for ever.

    Args:
        path: the file.
        max_bytes: a larger file is an error.

    Returns:
        Its size in bytes, at least 1.

    Raises:
        ValueError: it does not exist, is a folder, a pipe, a socket or a device, is empty or too large.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {_why_not(error)}") from None
    return _check_status(path, status, max_bytes)


def read_bounded(path: str | Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`.

    Raises:
        ValueError: as require_regular_file, or the file cannot be read.
    """
    require_regular_file(path, max_bytes)  # a device may do something when it is opened
    try:
        # The file may have been exchanged since: what counts is what was opened, without waiting for it.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            size = _check_status(path, os.fstat(file.fileno()), max_bytes)
            content = file.read(size + 1)  # Python takes the memory for as much as it is asked to read
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
    """Refuse to decode more pixels to open a file than one of its size can need.

    Args:
        name: how the file is called in the error.
        height, width: of a frame, px.
        passes: how often H x W pixels are decoded: frames of an animation, scans of a JPEG.
        num_bytes: size of the file.
        what: what is counted, in the plural.
        per_byte: pixels that a byte of the file may stand for.
        most: pixels that are too many for any file.

    Raises:
        ValueError: it would be too much.
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
    """Yield the items of a slow opening; say how far it is while it lasts, and end it after MAX_OPEN_SECONDS.

    Args:
        items: whatever is gone through.
        name: of the source.
        what: what the items are, and what is done, as in "pictures checked".
        total: number of items, where it is known.

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
