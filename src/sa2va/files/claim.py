"""Name the files that a kind of run may write, and refuse folders in which one would replace a user's file.

Flow: names of a kind of run -> Claim.check(folder, sources) -> nothing, or one line that says what is in the way.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.files.manifest import Manifest


@dataclass(frozen=True)
class Claim:
    """Names of results, relative to the output folder, as regular expressions with one slash per level."""

    names: tuple[str, ...] = ()  # of files that the run may write
    others: tuple[str, ...] = ()  # of files that an earlier run of this kind may have left and this one never writes

    def check(self, folder: Path, sources: Sequence[Path] = (), names: Iterable[str] | None = None) -> None:
        """Refuse a folder in which results would replace what they may not.

        Args:
            folder: where results go.
            sources: files and folders that the run reads.
            names: of the files that will be written; None, as long as that is not known, stands for all of the claim.

        Raises:
            ValueError: a name is taken by a file that is not ours, has changed since we wrote it, or is a source, or by
                a folder where a file must go, or the reverse.
        """
        if not folder.is_dir():
            return
        manifest, read = Manifest.read(folder), _identities(sources)
        taken = _find_all(folder, self.names) if names is None else _find_exactly(folder, names)
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
        """List what runs of this kind wrote, of the files in a manifest."""
        patterns = [re.compile(pattern) for pattern in (*self.names, *self.others)]
        return [name for name in manifest if any(pattern.fullmatch(name) for pattern in patterns)]


def _is_source(folder: Path, name: str) -> str:
    return (
        f"output folder {str(folder)!r}: {name} is the input itself, and a result would replace it; "
        "choose another folder"
    )


def _find_all(folder: Path, patterns: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """Yield what stands under the names of a claim, and whether a folder belongs there."""
    for pattern in patterns:
        yield from _find(folder, pattern.split("/"))


def _find(folder: Path, levels: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    level, *below = levels
    for name in sorted(os.listdir(folder)):
        if re.fullmatch(level, name):
            yield folder / name, bool(below)
            if below and (folder / name).is_dir():
                yield from _find(folder / name, below)


def _find_exactly(folder: Path, names: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """The same for names that are known; folders come first and once."""
    for name in names:
        path = folder / name
        for parent in reversed(path.relative_to(folder).parents[:-1]):
            if os.path.lexists(folder / parent):
                yield folder / parent, True
        if os.path.lexists(path):
            yield path, False


def _identities(sources: Sequence[Path]) -> set[tuple[int, int]]:
    """Tell files apart by what they are, whatever they are called: a link, symbolic or hard, is the file itself."""
    return {found for source in sources if (found := _identity(source)) is not None}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
