"""Write results all or not at all: files appear in the user's folder only when every one of them is complete.

Flow: command -> staged(folder) -> hidden scratch folder inside it -> moved into place at the end, or removed; what was
    there before is put back unless everything moved;
    new_folder(folder) -> hidden scratch folder beside it -> renamed, or removed.
"""

import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from sa2va.files import flush_tree, refusals, told_as

MASKS = re.compile(r"mask_\d+")  # the folder of one object of a video, a PNG a frame
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
            new, old = Path(scratch.name, "new"), Path(scratch.name, "old")
            new.mkdir()
            old.mkdir()
            with told_as(new, folder), refusals(folder, new):
                yield new
                move_files(new, folder, old)
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
            with told_as(inner, folder), refusals(folder, inner):
                yield inner
                flush_tree(inner)
                if folder.is_dir():
                    folder.rmdir()  # not every system renames over a folder, even an empty one
                inner.replace(folder)
    finally:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def require_kinds(folder: Path | None, *, files: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Refuse an output folder that has a folder where a file must go, or the reverse.

    Args:
        folder: where results go; None stands for "write nothing".
        files: names of files that will be written into it.
        folders: names of folders that will be written into it.

    Raises:
        ValueError: a name is taken by the other kind.
    """
    if folder is None:
        return
    for names, kind, other in ((files, "file", "folder"), (folders, "folder", "file")):
        for name in names:
            place = folder / name
            if place.exists() and place.is_dir() != (kind == "folder"):
                raise ValueError(
                    f"-o {str(folder)!r}: {name} is a {other}, and a {kind} must go there; "
                    "move it away or choose another folder"
                )


def require_kinds_of_masks(folder: Path | None, *, is_image: bool) -> None:
    """Refuse, before the work, an output folder in which masks of an image or of a video would not find their place.

    How many objects there will be is not known yet, so only the first mask is looked for.
    """
    if is_image:
        require_kinds(folder, files=("overlay.png", "annotations.json", "mask_1.png"))
    else:
        require_kinds(folder, files=("overlay.mp4", "annotations.json"), folders=("mask_1",))


def move_files(source: Path, target: Path, aside: Path) -> None:
    """Move all that is in `source` to the same places in `target`, or nothing of it.

    Args:
        source: the folder that is emptied.
        target: the folder that is filled.
        aside: an empty folder; it takes what `target` had in these places.

    Raises:
        ValueError: a name is taken by the other kind.
    """
    found = sorted(source.rglob("*"))
    require_kinds(
        target,
        files=[path.relative_to(source).as_posix() for path in found if not path.is_dir()],
        folders=[path.relative_to(source).as_posix() for path in found if path.is_dir()],
    )
    with ExitStack() as undo:
        move_entries(source, target, aside, undo)
        undo.pop_all()


def move_entries(source: Path, target: Path, aside: Path, undo: ExitStack) -> None:
    """Move entry by entry, and note in `undo` how to go back.

    A folder of masks takes the place of the old one as a whole: no frame of an earlier, longer run may stay beside a
    JSON that does not know it. Other folders may hold what is not ours, so they are joined.
    """
    for entry in sorted(source.iterdir()):
        place, old = target / entry.name, aside / entry.name
        if entry.is_dir() and place.is_dir() and not MASKS.fullmatch(entry.name):
            old.mkdir()
            move_entries(entry, place, old, undo)
            continue
        # Noted before each step and not after it: an interrupt may come between the two.
        undo.callback(move_if_there, old, place)
        move_if_there(place, old)
        undo.callback(move_if_there, place, entry)
        entry.replace(place)


def move_if_there(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        source.replace(target)


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
