"""Find the media files of a dataset and decode them on demand.

Flow: annotation records -> MediaFolders.find -> StoredPicture, StoredFrames, StoredVideo -> Sample.media.
    Nothing is opened before a frame or an unknown size is asked for, so a dataset of any size is built at once.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from sa2va.data.records import Record
from sa2va.files.read_limits import MAX_PIXELS, list_folder
from sa2va.media.pictures import read_picture, read_size
from sa2va.media.source import Media, open_media
from sa2va.types import Frames

UNKNOWN_LENGTH = 100  # frames assumed of a video file, which tells its length only when it is opened


class MediaFolders:
    """Folders that may hold the media of a dataset, each listed once."""

    def __init__(self, *roots: Path) -> None:
        self.roots = roots
        self._listed: dict[Path, frozenset[str]] = {}
        self._below: dict[tuple[Path, str], frozenset[str]] = {}  # the same, by root and path below it

    def find(self, name: str, record: Record, others: Iterable[str] = ()) -> Path:
        """Return the path of a file or folder in the first root that holds it.

        Args:
            name: path below a root, with "/" between its parts.
            record: names the place in errors.
            others: other names of the same file, tried in order if no root holds the first.

        Raises:
            ValueError: no root holds it, or the name leaves the roots.
        """
        for one in (name, *others):
            parts = [part for part in one.split("/") if part not in ("", ".")]
            if not parts or one.startswith("/") or ".." in parts or "\0" in one:
                raise record.error(f"file name {one!r:.80} is not a path below the dataset's folder")
            below = "/".join(parts[:-1])
            for root in self.roots:
                if (root, below) not in self._below:
                    self._below[root, below] = self.names(root / below)
                if parts[-1] in self._below[root, below]:
                    return root / below / parts[-1]
        places = " or ".join(str(root) for root in self.roots)
        raise record.error(f"there is no {name} in {places}; fetch the missing file or remove the record")

    def names(self, folder: Path) -> frozenset[str]:
        """List the entries of a folder; empty if there is no such folder."""
        if folder not in self._listed:
            self._listed[folder] = frozenset(p.name for p in list_folder(folder)) if folder.is_dir() else frozenset()
        return self._listed[folder]


class SizedByHeader:
    """Size of picture files: that of the annotations, or else read from the header of the first file when asked for."""

    def __init__(self, first: Path, size: tuple[int, int] | None = None) -> None:
        self._first, self._size = first, size

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) px."""
        return self._size or read_size(self._first, MAX_PIXELS)

    @property
    def height(self) -> int:
        return self.size[0]

    @property
    def width(self) -> int:
        return self.size[1]


class StoredFrames(SizedByHeader):
    """A clip whose frames are picture files."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int] | None = None) -> None:
        super().__init__(paths[0], size)
        self.paths = tuple(paths)

    @property
    def num_frames(self) -> int:
        return len(self.paths)

    def frames(self, indices: Sequence[int]) -> Frames:
        """Decode frames at K indices, uint8 (K, H, W, 3).

        Raises:
            ValueError: a frame is damaged or not of the annotated size.
        """
        return np.stack([_read(self.paths[index], self.size) for index in indices])


class StoredPicture(StoredFrames):
    """A picture file."""

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        super().__init__([path], size)

    @property
    def path(self) -> Path:
        return self.paths[0]


class StoredVideo:
    """A video file, of which every n-th frame counts; opened when first used."""

    def __init__(self, path: Path, every: int = 1) -> None:
        self.path, self.every = path, every

    @cached_property
    def _media(self) -> Media:
        return open_media(self.path)

    def __reduce__(self) -> tuple[type, tuple[Path, int]]:
        return type(self), (self.path, self.every)  # a worker process opens the file itself

    @property
    def num_frames(self) -> int:
        """Number of counted frames, T."""
        return -(-(self._media.num_frames or 0) // self.every)

    @property
    def height(self) -> int:
        return self._media.height

    @property
    def width(self) -> int:
        return self._media.width

    def frames(self, indices: Sequence[int]) -> Frames:
        """Decode counted frames at K indices, uint8 (K, H, W, 3)."""
        return self._media.frames([index * self.every for index in indices])


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    frame = read_picture(path, MAX_PIXELS)
    if frame.shape[:2] != size:
        raise ValueError(
            f"{path}: the picture is {frame.shape[1]}x{frame.shape[0]}, its annotation says {size[1]}x{size[0]}; "
            "fetch the original file or correct the annotation"
        )
    return frame
