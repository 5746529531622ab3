"""Open the annotated frames of a clip: a folder of frames or a video file, of which some frames have masks.

Flow: reader of a clip format -> find_clip, ClipMedia.chosen -> OwnItem.media.
Shapes: T annotated frames, K frames asked for.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.data.media_files import StoredFrames, StoredVideo
from sa2va.data.own.objects import check_picture
from sa2va.data.records import Record
from sa2va.files.read_limits import list_folder
from sa2va.media.pictures import SUFFIXES
from sa2va.types import Frames, FrameSource

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@dataclass(frozen=True)
class ChosenFrames:
    """Some frames of a video file."""

    source: StoredVideo
    indices: tuple[int, ...]  # T
    height: int  # px
    width: int

    @property
    def num_frames(self) -> int:
        return len(self.indices)

    def frames(self, indices: Sequence[int]) -> Frames:
        """Decode chosen frames at K indices, uint8 (K, H, W, 3)."""
        return self.source.frames([self.indices[index] for index in indices])


def choose_frames(place: Path, indices: Sequence[int], size: tuple[int, int], record: Record) -> FrameSource:
    """Return the frames of a clip at the numbers that its annotations name.

    Args:
        place: video file, or folder of frames whose names end in their number.
        indices: numbers of frames, from 0.
        size: (H, W) px of the masks.
        record: names the place in errors.

    Raises:
        ValueError: the clip has no such frame or another size, or the video cannot be opened.
    """
    if place.is_dir():
        numbered = number_files(place, SUFFIXES)
        missing = [index for index in indices if index not in numbered]
        if missing:
            raise record.error(f"there is no frame {missing[0]} in {place}, which has {len(numbered)} frames")
        check_picture(numbered[indices[0]], size, record)
        return StoredFrames([numbered[index] for index in indices], size)
    video = StoredVideo(place)
    if (found := (video.height, video.width)) != size:
        sizes = f"{place.name} is {found[1]}x{found[0]}, and it is annotated as {size[1]}x{size[0]}"
        raise record.error(f"{sizes}; fetch the original video or export the masks again")
    if max(indices) >= video.num_frames:
        raise record.error(f"it has masks on frame {max(indices)}, and {place} has {video.num_frames} frames")
    return ChosenFrames(video, tuple(indices), *size)


def number_files(folder: Path, suffixes: Sequence[str] | frozenset[str]) -> dict[int, Path]:
    """Return the files of a folder by the last number in their names, in increasing order.

    Raises:
        ValueError: a name has no number, or two have the same.
    """
    found: dict[int, Path] = {}
    for file in sorted(list_folder(folder)):
        if file.suffix.lower() not in suffixes:
            continue
        numbers = re.findall(r"\d+", file.stem)
        if not numbers or int(numbers[-1]) in found:
            reason = f"has the number of {found[int(numbers[-1])].name}" if numbers else "has no number"
            raise ValueError(f"{file}: its name {reason}; name frames by number, as in 00000{file.suffix}")
        found[int(numbers[-1])] = file
    return dict(sorted(found.items()))
