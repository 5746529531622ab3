"""Declare the files that a kind of run may write, and refuse folders where one would replace a user's file.

Flow: file names of a kind of run -> Claim.check(folder, sources) -> nothing, or a ValueError in one line.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sa2va.files.manifest import Manifest


@dataclass(frozen=True)
class Claim:
    """Names of results relative to the output folder: regular expressions with one slash per folder level."""

    names: tuple[str, ...] = ()  # files that the run may write
    others: tuple[str, ...] = ()  # files that only earlier runs of this kind may have left

    def check(self, folder: Path, sources: Sequence[Path] = (), names: Iterable[str] | None = None) -> None:
        """Refuse a folder where results would replace a user's file or an input.

        Args:
            folder: folder for the results.
            sources: files and folders that the run reads.
            names: files that will be written; None = not known yet, so all names of the claim.

        Raises:
            ValueError: a name belongs to an input, to a file that sa2va did not write or that has changed since, to a
                folder where a file is expected, or to a file where a folder is expected.
        """
        if not folder.is_dir():
            return
        manifest, read = Manifest.read(folder), {_identity(source) for source in sources} - {None}
        if names is not None:
            taken = _find_exactly(folder, names)
        else:
            taken = chain.from_iterable(_find(folder, pattern.split("/")) for pattern in self.names)
        for path, wants_folder in taken:
            name = path.relative_to(folder).as_posix()
            if _identity(path) in read:
                raise ValueError(_is_source(folder, name))
            if path.is_dir() != wants_folder:
                kind, other = ("folder", "file") if wants_folder else ("file", "folder")
                raise ValueError(
                    f"output folder {str(folder)!r}: {name} is a {other}, and a {kind} must go there; "
                    "move it away or choose another folder"
                )
            if not wants_folder and not manifest.owns(name):
                raise ValueError(
                    f"output folder {str(folder)!r}: {name} was not written by sa2va, or has changed since, and a "
                    "result would replace it; move it away or choose another folder"
                )
        for name in self.former_files(manifest):
            if _identity(folder / name) in read and manifest.owns(name):
                raise ValueError(_is_source(folder, name))

    def former_files(self, manifest: Manifest) -> list[str]:
        """List the files in a manifest that runs of this kind wrote."""
        patterns = [re.compile(pattern) for pattern in (*self.names, *self.others)]
        return [name for name in manifest if any(pattern.fullmatch(name) for pattern in patterns)]


def _is_source(folder: Path, name: str) -> str:
    return (
        f"output folder {str(folder)!r}: {name} is the input itself, and a result would replace it; "
        "choose another folder"
    )


def _find(folder: Path, levels: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Yield existing paths that match the patterns of each level, and whether a folder belongs there."""
    level, *below = levels
    for name in sorted(os.listdir(folder)):
        if re.fullmatch(level, name):
            yield folder / name, bool(below)
            if below and (folder / name).is_dir():
                yield from _find(folder / name, below)


def _find_exactly(folder: Path, names: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """Yield existing paths under exact names, parent folders first, and whether a folder belongs there."""
    for name in names:
        path = folder / name
        for parent in reversed(path.relative_to(folder).parents[:-1]):
            if os.path.lexists(folder / parent):
                yield folder / parent, True
        if os.path.lexists(path):
            yield path, False


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode, which are the same for a file and its symbolic and hard links; None if missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
