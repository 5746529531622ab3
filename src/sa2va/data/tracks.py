"""Store the masks of a sample as annotated (polygons or run lengths) and decode them on demand.

Flow: annotations of a dataset -> check_segmentation -> StoredTracks -> Sample.tracks -> model/processor.py, which
    decodes the key frames. Every mask is binary: overlapping parts are united, never added.
Source: COCO's annotation format (cocodataset.org): polygons [[x0, y0, ...], ...], compressed run lengths
    {"size", "counts": text}, plain ones {"size", "counts": list}.
Shapes: M objects, T frames, H W picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.data.records import Record
from sa2va.masks import RLE, area, decode_rle, encode_rle, polygons_to_mask, polygons_to_rle
from sa2va.types import Masks, MaskTracks

# Polygons, or run lengths.
Segmentation = Sequence[Any] | Mapping[str, Any]
_NUMBERS = frozenset((int, float))


def check_segmentation(segmentation: Any, record: Record, size: tuple[int, int] | None = None) -> Segmentation:
    """Check the form of a segmentation without decoding it.

    Args:
        segmentation: polygons, run lengths, or a list of run lengths.
        record: names the place in errors.
        size: (H, W) px of the picture, which run lengths must have; None = not known yet.

    Raises:
        ValueError: neither polygons of three points nor run lengths of that size, or it is empty.
    """
    if isinstance(segmentation, Mapping):
        parts: list[Any] = [segmentation]
    elif isinstance(segmentation, list) and segmentation:
        parts = segmentation
    else:
        raise record.error(f"segmentation is {segmentation!r:.60}; expected polygons or run lengths")
    for part in parts:
        if isinstance(part, Mapping):
            own, counts = part.get("size"), part.get("counts")
            if not (isinstance(own, list) and len(own) == 2 and isinstance(counts, str | bytes | list)):
                raise record.error(f"segmentation has run lengths {part!r:.60}; expected size [H, W] and counts")
            if size is not None and own != list(size):
                raise record.error(f"segmentation has size {own!r:.60}; expected that of the picture, {list(size)}")
        elif not isinstance(part, list) or len(part) < 6 or len(part) % 2 or not _NUMBERS.issuperset(map(type, part)):
            raise record.error(
                f"segmentation has polygon {part!r:.60}; expected [x0, y0, x1, y1, ...], 3 points or more"
            )
    return segmentation


def decode_segmentation(segmentation: Segmentation, height: int, width: int) -> NDArray[np.bool_]:
    """Decode a segmentation as the union of its parts, bool (H, W).

    Raises:
        ValueError: it cannot be parsed, or its size is not that of the picture.
    """
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"mask is {segmentation['size']}; expected the picture's size [{height}, {width}]")
        return decode_rle(segmentation)
    mask = np.zeros((height, width), bool)
    for part in segmentation:
        if isinstance(part, Mapping):
            mask |= decode_segmentation(part, height, width)
    if polygons := [part for part in segmentation if not isinstance(part, Mapping)]:
        mask |= polygons_to_mask(polygons, height, width)
    return mask


def encode_segmentation(segmentation: Segmentation, height: int, width: int) -> RLE:
    """Return a segmentation as compressed run lengths; those that are compressed already are checked, not decoded.

    Raises:
        ValueError: as `decode_segmentation`.
    """
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) == [height, width] and isinstance(segmentation["counts"], str):
            area(segmentation)  # raises if the runs do not fill the size
            return RLE(size=[height, width], counts=segmentation["counts"])
    elif not any(isinstance(part, Mapping) for part in segmentation):
        return polygons_to_rle(segmentation, height, width)
    elif len(segmentation) == 1:
        return encode_segmentation(segmentation[0], height, width)
    return encode_rle(decode_segmentation(segmentation, height, width))


@dataclass(frozen=True)
class StoredTracks:
    """Masks of M objects on T frames, as annotated."""

    objects: Sequence[Sequence[Segmentation | None]]  # M lists of T; None = not in that frame
    height: int  # px
    width: int

    def __len__(self) -> int:
        return len(self.objects)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Decode masks of n objects on K frames, bool (n, K, H, W).

        Raises:
            ValueError: a mask cannot be parsed or differs in size from the frames.
        """
        out = np.zeros((len(objects), len(frames), self.height, self.width), bool)
        for row, index in enumerate(objects):
            for column, frame in enumerate(frames):
                segmentation = self.objects[index][frame]
                if segmentation is None:
                    continue
                try:
                    out[row, column] = decode_segmentation(segmentation, self.height, self.width)
                except ValueError as error:
                    raise ValueError(f"object {index} on frame {frame}: {error}") from error
        return out


@dataclass(frozen=True)
class UnitedTracks:
    """Tracks whose objects are unions of the objects of other tracks, for expressions that name several as one."""

    tracks: MaskTracks
    members: Sequence[Sequence[int]]  # M lists of rows of `tracks`; an empty one is an empty mask

    def __len__(self) -> int:
        return len(self.members)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Decode masks of n unions on K frames, bool (n, K, H, W)."""
        if not len(objects):
            return self.tracks.masks((), frames)
        return np.stack([self.tracks.masks(self.members[index], frames).any(0) for index in objects])
