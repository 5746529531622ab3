"""Record which files of a folder we wrote, by content hash, so that no other file is replaced.

Flow: staging.py -> Manifest.read(folder) -> owns(name) -> write(). The record is `.sa2va.json` in the folder.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from sa2va.files.atomic import write_text
from sa2va.files.read_limits import MAX_DATA_BYTES, read_bounded

MANIFEST = ".sa2va.json"


class Manifest:
    """Files that runs wrote into a folder: name -> SHA-256 hashes of the written content.

    A file that is not listed, or was changed since, belongs to the user.
    """

    def __init__(self, folder: Path, digests: dict[str, list[str]]) -> None:
        self.folder, self._digests = folder, digests

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder; empty if there is none.

        Raises:
            ValueError: the manifest is damaged.
        """
        path = folder / MANIFEST
        if not path.exists():
            return cls(folder, {})
        try:
            files = json.loads(read_bounded(path, MAX_DATA_BYTES))["files"]
            return cls(folder, {str(name): [str(digest) for digest in digests] for name, digests in files.items()})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path}: cannot be read as the list of files that sa2va wrote ({type(error).__name__}); "
                "delete it and the results beside it, or choose another folder"
            ) from error

    def __iter__(self) -> Iterator[str]:
        """Iterate over names relative to the folder, with forward slashes."""
        return iter(self._digests)

    def owns(self, name: str) -> bool:
        """Return whether a file is unchanged since one of our runs wrote it."""
        path = self.folder / name
        if name not in self._digests or path.is_symlink() or not path.is_file():
            return False
        return digest(path) in self._digests[name]

    def without(self, names: Collection[str]) -> "Manifest":
        """Return a manifest without these names."""
        return Manifest(self.folder, {name: kept for name, kept in self._digests.items() if name not in names})

    def with_files(self, root: Path, names: Iterable[str]) -> "Manifest":
        """Return a manifest with files below `root` added; earlier hashes of these names are kept."""
        digests = dict(self._digests)
        for name in names:
            digests[name] = list(dict.fromkeys((*digests.get(name, ()), digest(root / name))))
        return Manifest(self.folder, digests)

    def write(self) -> None:
        """Write the manifest atomically; delete it if there are no files."""
        path = self.folder / MANIFEST
        if not self._digests:
            path.unlink(missing_ok=True)
            return
        note = "files that sa2va wrote here and may replace, by SHA-256"
        write_text(path, json.dumps({"note": note, "files": self._digests}, indent=1) + "\n")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
