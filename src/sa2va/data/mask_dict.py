"""Read mask dictionaries of video datasets: annotation id -> one COCO run-length mask per frame, or null.

Flow: mask_dict.json or mask_dict.pkl -> read_mask_dict -> MaskDict.track -> RunLengthTrack -> tracks.StoredTracks.
    A track is one buffer of bytes instead of hundreds of dictionaries: half the memory, and a worker process that is
    forked from the main one shares it.
Shapes: T frames, H W picture.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from sa2va.data.packed import PackedBytes
from sa2va.data.plain_pickle import read_plain_pickle
from sa2va.data.records import Record, read_annotations
from sa2va.data.tracks import Segmentation, check_segmentation
from sa2va.masks import decode_rle, encode_rle


class RunLengthTrack(Sequence[Segmentation | None]):
    """Run-length masks of one object on T frames, packed; None where the object is not annotated.

    Attributes:
        size: [H, W] px of all masks; None if there is no mask on any frame.
    """

    __slots__ = ("_letters", "size")

    def __init__(self, frames: Sequence[Any], record: Record) -> None:
        """Check and pack masks.

        Args:
            frames: T masks, each {"size": [H, W], "counts": ...} or None.
            record: names the place in errors.

        Raises:
            ValueError: a mask is malformed, or masks differ in size.
        """
        letters = []
        self.size: list[int] | None = None
        for place, rle in enumerate(frames):
            if rle is None:
                letters.append(b"")
                continue
            if not isinstance(rle, Mapping):
                raise record.error(f"frame {place}: mask is {rle!r:.60}; expected run lengths or null")
            check_segmentation(rle, record)
            if self.size not in (None, rle["size"]):
                raise record.error(f"frame {place}: mask is {rle['size']}, those before are {self.size}")
            self.size = list(rle["size"])
            letters.append(_pack(rle, record, place))
        self._letters = PackedBytes(letters)

    def __len__(self) -> int:
        return len(self._letters)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunLengthTrack):
            return NotImplemented
        return (self.size, self._letters) == (other.size, other._letters)

    __hash__ = None

    @overload
    def __getitem__(self, frame: int) -> Segmentation | None: ...
    @overload
    def __getitem__(self, frame: slice) -> list[Segmentation | None]: ...
    def __getitem__(self, frame: int | slice) -> Segmentation | None | list[Segmentation | None]:
        if isinstance(frame, slice):
            return [self[place] for place in range(len(self))[frame]]
        letters = self._letters[frame]
        return {"size": self.size, "counts": letters} if letters else None


class MaskDict:
    """Mask tracks of a file by annotation id; each is checked and packed when it is first asked for."""

    def __init__(self, file: Path, values: dict[Any, Any]) -> None:
        """Take over the content of a file: an entry is dropped once it is packed, to save memory."""
        self.file = file
        self._unread = {str(key): value for key, value in values.items()}
        self._tracks: dict[str, RunLengthTrack] = {}
        self.num_tracks = len(self._unread)

    def track(self, anno_id: int | str, num_frames: int, user: Record) -> RunLengthTrack:
        """Return the masks of an annotation.

        Args:
            anno_id: its key.
            num_frames: T.
            user: record that refers to it.

        Raises:
            ValueError: there is no such annotation, it does not have one mask per frame, or a mask is malformed.
        """
        key = str(anno_id)
        if key not in self._tracks:
            if key not in self._unread:
                raise user.error(f"there is no annotation {key} in {self.file.name}; the two do not belong together")
            self._tracks[key] = RunLengthTrack(*self._frames(key))
            del self._unread[key]
        track = self._tracks[key]
        if len(track) != num_frames:
            raise user.error(
                f"annotation {key} of {self.file.name} has {len(track)} masks for {num_frames} frames; "
                "expected one per frame, null where the object is not visible"
            )
        return track

    def _frames(self, key: str) -> tuple[list[Any], Record]:
        record = Record({}, self.file, f"annotation {key}")
        frames = self._unread[key]
        if isinstance(frames, dict):  # the foreground of a clip of ReVOS
            frames = frames.get("masks_rle")
        if not isinstance(frames, list):
            raise record.error(f"it is {frames!r:.60}; expected a list with one mask per frame")
        return frames, record


def read_mask_dict(file: Path) -> MaskDict:
    """Read a mask dictionary, JSON or by the suffix .pkl a pickle of plain values.

    Raises:
        ValueError: the file is missing, damaged or holds anything but an object.
    """
    values = read_plain_pickle(file) if file.suffix == ".pkl" else read_annotations(file)
    if not isinstance(values, dict):
        raise ValueError(f"{file}: it holds {values!r:.60}; expected masks by annotation id")
    return MaskDict(file, values)


def _pack(rle: Mapping[str, Any], record: Record, place: int) -> bytes:
    """Return compressed run lengths as bytes; plain ones are compressed."""
    counts = rle["counts"]
    try:
        if isinstance(counts, list):
            counts = encode_rle(decode_rle(rle))["counts"]
        letters = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except ValueError as error:
        raise record.error(f"frame {place}: {error}") from error
    if not letters:
        raise record.error(f"frame {place}: mask has no run lengths; expected null where the object is not visible")
    return letters
