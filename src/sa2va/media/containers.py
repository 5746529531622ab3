"""Tell pictures from videos by the content of a file, whatever its name says.

Flow: the first bytes of a file, and its top-level boxes -> "video", "heif", "avif" or "picture" -> source.py,
    pictures.py.
Source: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (brands of still pictures), RFC 9559 (Matroska).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from sa2va.files import read_limits

Kind = Literal["video", "heif", "avif", "picture"]

HEAD_BYTES = 512  # enough to recognize a container
TS_PACKET = 188  # bytes between two sync bytes of an MPEG transport stream
MAX_BOXES = 4096  # top-level boxes to read; a fragmented video has two per second, but its moov box comes first

AVIF_BRANDS = frozenset((b"avif", b"avis"))  # Pillow reads these
STILL_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"avci", b"mif1", b"mif2", b"avif", b"jpeg", b"j2ki"))
SEQUENCE_BRANDS = frozenset((b"hevc", b"hevx", b"hevm", b"hevs", b"avcs", b"msf1", b"avis"))
PICTURE_BRANDS = STILL_BRANDS | SEQUENCE_BRANDS


def kind_of(path: Path) -> Kind:
    """Choose the decoder of a file: FFmpeg (video), libheif (heif) or Pillow (avif, picture).

    An ISO base media file is a picture if its major brand names a still picture, or if any brand names a picture and
    the file has no track. FFmpeg would decode only the first tile of a tiled picture. An image sequence has a track and
    is decoded as video, except in AVIF, which Pillow decodes.

    Raises:
        ValueError: the file cannot be opened.
    """
    head = read_limits.read_head(path, HEAD_BYTES)
    if head[4:8] != b"ftyp":
        return "video" if _is_container(head) else "picture"
    end = min(int.from_bytes(head[:4], "big"), len(head))
    main, others = head[8:12], [head[place : place + 4] for place in range(16, end - 3, 4)]
    brands = PICTURE_BRANDS.intersection((main, *others))
    if not brands:
        return "video"
    is_avif = bool(AVIF_BRANDS & brands)
    if main not in STILL_BRANDS and not (is_avif and main in PICTURE_BRANDS) and _has_track(path):
        return "video"
    return "avif" if is_avif else "heif"


def _is_container(head: bytes) -> bool:
    return (
        head[4:8] in (b"moov", b"mdat", b"free", b"wide", b"skip")
        or head.startswith((b"\x1a\x45\xdf\xa3", b"OggS", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"))
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or head[: 2 * TS_PACKET : TS_PACKET] == b"\x47\x47"
    )


def _has_track(path: Path) -> bool:
    with path.open("rb") as file:
        return any(name in (b"moov", b"moof") for name in _box_names(file))


def _box_names(file: BinaryIO) -> Iterator[bytes]:
    """Yield the name of each top-level box."""
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
        yield name
        place += size
