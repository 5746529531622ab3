"""Tell pictures from videos by what a file contains, whatever its name says.

Flow: the first bytes of a file, and its boxes where it is made of boxes -> "video", "heif", "avif" or "picture" ->
    media.py, pictures.py.
Source: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (brands of still pictures), RFC 9559 (Matroska).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from sa2va.files import read_limits

Kind = Literal["video", "heif", "avif", "picture"]

HEAD_BYTES = 512  # enough to tell a container from its start
TS_PACKET = 188  # bytes; an MPEG transport stream is known by one letter repeated at this distance
MAX_BOXES = 4096  # at the top of a file; a fragmented video has two a second and names its moov first
MAX_MOOV_BYTES = 64 * 2**20

AVIF_BRANDS = frozenset((b"avif", b"avis"))  # Pillow reads these
STILL_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"avci", b"mif1", b"mif2", b"avif", b"jpeg", b"j2ki"))
SEQUENCE_BRANDS = frozenset((b"hevc", b"hevx", b"hevm", b"hevs", b"avcs", b"msf1", b"avis"))
PICTURE_BRANDS = STILL_BRANDS | SEQUENCE_BRANDS


def kind_of(path: Path) -> Kind:
    """Tell what can read a file: FFmpeg (video), libheif (heif) or Pillow (avif, picture).

    A file of boxes is a still picture where its main brand says so, or where a compatible brand says so and it has
    no track: of a tiled picture FFmpeg would show the first tile. A sequence of pictures is a track, and a video.

    Raises:
        ValueError: the file cannot be opened.
    """
    head = read_limits.read_head(path, HEAD_BYTES)
    if head[4:8] != b"ftyp":
        return "video" if _is_container(head) else "picture"
    main, *others = _brands(head)
    pictured = PICTURE_BRANDS.intersection((main, *others))
    if not pictured:
        return "video"
    is_avif = bool(AVIF_BRANDS & pictured)
    if main not in STILL_BRANDS and not (is_avif and main in PICTURE_BRANDS) and _has_track(path):
        return "video"
    return "avif" if is_avif else "heif"


def display_matrix(path: Path) -> bytes:
    """Return the nine big-endian numbers of the first picture track of a file of boxes; b"" where there is none."""
    with path.open("rb") as file:
        for name, start, size in _boxes(file):
            if name == b"moov" and size <= MAX_MOOV_BYTES:
                file.seek(start)
                return _matrix_in(file.read(size))
    return b""


def _is_container(head: bytes) -> bool:
    return (
        head[4:8] in (b"moov", b"mdat", b"free", b"wide", b"skip")
        or head.startswith((b"\x1a\x45\xdf\xa3", b"OggS", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"))
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or head[: 2 * TS_PACKET : TS_PACKET] == b"\x47\x47"
    )


def _brands(head: bytes) -> list[bytes]:
    """Return the main brand, then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))]


def _has_track(path: Path) -> bool:
    with path.open("rb") as file:
        return any(name in (b"moov", b"moof") for name, _, _ in _boxes(file))


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and size in bytes of the content of each box at the top of a file."""
    place, end = 0, file.seek(0, 2)
    for _ in range(MAX_BOXES):
        if place >= end:
            return
        file.seek(place)
        header = file.read(16)
        if len(header) < 8:
            return
        size, name = struct.unpack(">I4s", header[:8])
        num_header = 8
        if size == 1 and len(header) == 16:
            size, num_header = int.from_bytes(header[8:], "big"), 16
        elif size == 0:  # up to the end of the file
            size = end - place
        if size < num_header:
            return
        yield name, place + num_header, size - num_header
        place += size


def _matrix_in(moov: bytes) -> bytes:
    """Return the matrix of the first track header that has a width."""
    place = moov.find(b"tkhd")
    while place >= 0:
        start = place + 4 + (52 if moov[place + 4 : place + 5] == b"\1" else 40)
        if len(moov) >= start + 44 and any(moov[start + 36 : start + 40]):
            return moov[start : start + 36]
        place = moov.find(b"tkhd", place + 4)
    return b""
