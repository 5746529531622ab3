"""Write results all or not at all: files appear in the user's folder only when every one of them is complete.

Flow: command -> staged(folder) -> hidden scratch folder inside it -> moved into place at the end, or removed;
    new_folder(folder) -> hidden scratch folder beside it -> renamed, or removed.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SHOWN_NAMES = 4  # of the files just written, in the closing line


@contextmanager
def staged(folder: Path | None) -> Generator[Path | None]:
    """Give a scratch folder whose files move into `folder` when the block ends without an error.

    The scratch folder lies inside `folder`, so that the move is a rename and a full disk or a folder that
    cannot be written shows before any work is done. None stands for "write nothing".

    Raises:
        ValueError: `folder` exists and is a file, or cannot be created or written.
    """
    if folder is None:
        yield None
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix=".sa2va-", dir=folder)
    except FileExistsError as error:
        raise ValueError(f"-o {str(folder)!r}: is a file; expected a folder") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"-o {str(folder)!r}: cannot be written ({reason}); choose another folder") from error
    try:
        with scratch:
            yield Path(scratch.name)
            move_files(Path(scratch.name), folder)
    finally:
        for place in made:  # a failed run leaves no empty folder behind
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """Give a scratch folder that becomes `folder`, by one rename, when the block ends without an error.

    Raises:
        ValueError: `folder` is there already and not empty, or cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{str(folder)!r}: is there already; choose a new or empty folder")
        place = folder.resolve().parent
        made = [parent for parent in (place, *place.parents) if not parent.exists()]
        place.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix=".sa2va-", dir=place)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{str(folder)!r}: cannot be written ({reason}); choose another folder") from error
    try:
        with scratch:
            inner = Path(scratch.name, folder.name)
            inner.mkdir()
            yield inner
            if folder.is_dir():
                folder.rmdir()  # not every system renames over a folder, even an empty one
            inner.replace(folder)
    finally:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def move_files(source: Path, target: Path) -> None:
    """Move every file below `source` to the same place below `target`, over what is there."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)


def describe_files(files: Sequence[Path], scratch: Path, folder: Path) -> str:
    """Say in one line what was written and where.

    Args:
        files: the files, in the scratch folder.
        scratch: the scratch folder.
        folder: where they will be.
    """
    names = [path.relative_to(scratch).as_posix() for path in files]
    shown = ", ".join(names[:SHOWN_NAMES])
    rest = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    noun = "file" if len(names) == 1 else "files"
    return f"wrote {len(names)} {noun} to {folder}/: {shown}{rest}"
