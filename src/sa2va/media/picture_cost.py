"""Estimate the cost of decoding a picture file before decoding it.

Flow: a file -> check_comments, HeaderLimitedFile, check_cost -> nothing, or a ValueError in one line -> pictures.py.
Source: GIF89a; ITU-T T.81, annex B (markers of JPEG).
"""

import io
import mmap
import re
from pathlib import Path

from PIL import Image

from sa2va.files import read_limits

EOI, SOS = 0xD9, 0xDA
BARE_MARKERS = (0x01, *range(0xD0, 0xD9))  # markers without a length
NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in coded data 0xff is followed by 0 or a restart marker
GIF_FRAME, GIF_END, GIF_TIMING = b",", b";", b"\xf9"
SMALL_BLOCK = 32  # bytes; encoders fill every sub-block of a GIF but the last one to 255
COST_OF_BLOCK = 8  # cost of a needlessly small sub-block, in bytes of comment
GIF_BLOCK = re.compile(rb"[!,;]")  # a decoder searches byte by byte for the next of these
SCANS_PER_PASS = 4  # scans of a progressive JPEG that cost as much as decoding the picture once


class HeaderLimitedFile(io.FileIO):
    """A file that limits reading until `opened` is set, since a header can be endless."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opened = self.refused = False
        self._num_bytes = self._num_reads = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read, and count the requested bytes toward the header limit; a read of the whole file (-1) counts as 0 bytes.

        Raises:
            OSError: the header is too long.
        """
        if not self.opened:
            self._num_reads += 1
            self._num_bytes += max(size or 0, 0)
            if self._num_bytes > read_limits.MAX_HEADER_BYTES or self._num_reads > read_limits.MAX_HEADER_READS:
                self.refused = True  # Pillow may swallow the exception
                raise OSError("the header is too long")
        return super().read(size) or b""


def check_comments(path: Path) -> None:
    """Refuse a GIF whose comments would slow the decoder before the first frame or between frames.

    Raises:
        ValueError: more than MAX_COMMENT_BYTES of comments.
    """
    if read_limits.read_head(path, 4) == b"GIF8" and _measure_gif(path)[1] > read_limits.MAX_COMMENT_BYTES:
        raise ValueError(
            f"{path}: it holds more than the {read_limits.MAX_COMMENT_BYTES} bytes of comments and padding allowed; "
            "save it again without them"
        )


def check_cost(image: Image.Image, path: Path, num_bytes: int) -> None:
    """Refuse a file whose decoding cost is out of proportion to its pixels and bytes.

    Args:
        image: opened picture, not decoded.
        path: its file.
        num_bytes: size of the file.

    Raises:
        ValueError: too many scans or frames.
    """
    if image.format in ("JPEG", "MPO"):
        num_scans = _count_scans(path)
        if num_scans > read_limits.MAX_SCANS:
            raise ValueError(
                f"{path}: more than the {read_limits.MAX_SCANS} scans allowed in a progressive JPEG; save it again"
            )
        passes = -(-num_scans // SCANS_PER_PASS)
        read_limits.check_work(str(path), image.height, image.width, passes, num_bytes, f"times {SCANS_PER_PASS} scans")
    elif image.format == "GIF":
        num_frames, _ = _measure_gif(path)
        read_limits.check_work(str(path), image.height, image.width, num_frames, num_bytes)
    elif getattr(image, "is_animated", False) and image.format != "TIFF":
        read_limits.check_work(str(path), image.height, image.width, getattr(image, "n_frames", 1), num_bytes)
    elif image.format == "PPM" and any(tile[0] == "ppm_plain" for tile in getattr(image, "tile", ())):
        read_limits.check_size(str(path), image.height, image.width, read_limits.MAX_TEXT_PIXELS)


def _count_scans(path: Path) -> int:
    """Count the scans of the first JPEG in a file, up to one more than allowed."""
    num_scans, place = 0, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while num_scans <= read_limits.MAX_SCANS:
            found = NEXT_MARKER.search(data, place)
            if found is None or data[found.start() + 1] == EOI:
                break
            marker, place = data[found.start() + 1], found.end()
            if marker not in BARE_MARKERS:
                place += int.from_bytes(data[place : place + 2], "big")
            num_scans += marker == SOS
    return num_scans


def _measure_gif(path: Path) -> tuple[int, int]:
    """Count the frames of a GIF, and the bytes of comments and of padding between blocks."""
    num_frames = num_idle = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = 13 + _palette_bytes(data, 10)
        most = read_limits.MAX_WORK // read_limits.MIN_WORK
        limit = read_limits.MAX_COMMENT_BYTES
        while num_idle <= limit and num_frames <= most and (found := GIF_BLOCK.search(data, place)):
            if found.group() == GIF_END:
                break
            num_idle += found.start() - place
            place = found.start()
            if found.group() == GIF_FRAME:
                num_frames += 1
                place, num_needless = _after_blocks(data, place + 11 + _palette_bytes(data, place + 9))
                num_idle += COST_OF_BLOCK * num_needless
            else:
                start, (place, _) = place, _after_blocks(data, place + 2)
                num_idle += (place - start) * (data[start + 1 : start + 2] != GIF_TIMING)
    return num_frames, num_idle


def _palette_bytes(data: mmap.mmap, place: int) -> int:
    flags = data[place] if place < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Skip the sub-blocks up to the empty terminator.

    Returns:
        The position after the terminator, and the number of needless sub-blocks: those beyond one per SMALL_BLOCK
        bytes.
    """
    start, size, num_blocks = place, len(data), 0
    while place < size and data[place]:
        place += data[place] + 1
        num_blocks += 1
        if COST_OF_BLOCK * (num_blocks - (place - start) // SMALL_BLOCK) > 2 * read_limits.MAX_COMMENT_BYTES:
            break  # refused already
    return place + 1, max(0, num_blocks - 1 - (place - start) // SMALL_BLOCK)
