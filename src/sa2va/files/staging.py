"""Write results all or not at all: files appear in the user's folder only when every one of them is complete.

Flow: command or Prediction.save -> staged(folder) -> hidden scratch folder inside it -> moved into place at the end, or
    removed; what was there before is put back unless everything moved;
    new_folder(folder) -> files.whole_folder, only where nothing is yet.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sa2va.files.atomic import CannotWrite, refusals, told_as, whole_folder
from sa2va.files.claim import Claim
from sa2va.files.manifest import Manifest
from sa2va.files.scratch import open_scratch


@contextmanager
def staged(folder: str | Path | None, claim: Claim, sources: Sequence[Path] = ()) -> Generator[Path | None]:
    """Give a scratch folder whose files move into `folder` when the block ends without an error.

    Files of the claim that an earlier run left in `folder` go. A file that no run of ours wrote, that has changed
    since, or that this run reads is never replaced: it is an error before the block runs.

    The scratch folder lies inside `folder`, so that the move is a rename and a full disk or a folder that
    cannot be written shows before any work is done. None stands for "write nothing".

    Args:
        folder: where results go.
        claim: names that the run may write.
        sources: files and folders that the run reads.

    Raises:
        ValueError: `folder` is a file, or cannot be created or written, or holds a file that may not be replaced.
    """
    if folder is None:
        yield None
        return
    if not str(folder):
        raise ValueError("the name of the output folder is empty; give a folder, as in out")
    folder = Path(folder)
    with _made(folder, folder), ExitStack() as stack:
        with refusals(folder):
            scratch = stack.enter_context(open_scratch(folder))
        claim.check(folder, sources)
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        old.mkdir()
        with told_as(new, folder), refusals(folder, new):
            yield new
            move_files(new, folder, old, claim, sources)


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """Give a scratch folder that becomes `folder`, by one rename, when the block ends without an error.

    Raises:
        ValueError: `folder` is there already and not empty, or cannot be written.
    """
    _require_new(folder)
    with _made(folder.resolve().parent, folder), whole_folder(folder) as draft:
        yield draft
        _require_new(folder)  # again: a user may have put something there meanwhile


def _require_new(folder: Path) -> None:
    try:
        is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise CannotWrite(folder, error.strerror or error) from error
    if is_taken:
        raise ValueError(f"{str(folder)!r}: is there already; choose a new or empty folder")


def clear(folder: Path, claim: Claim, sources: Sequence[Path] = ()) -> None:
    """Remove what an earlier run left under the names of a claim, and the folder if nothing else is in it."""
    if folder.is_dir():
        with staged(folder, claim, sources):
            pass
        _remove_empty([folder])


@contextmanager
def _made(place: Path, folder: Path) -> Generator[None]:
    """Make `place`, in which `folder` will be written; if it is still empty at the end, it is removed again."""
    try:
        made = [parent for parent in (place, *place.parents) if not parent.exists()]
    except OSError as error:
        raise CannotWrite(folder, error.strerror or error) from error
    try:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ValueError(f"output folder {str(folder)!r}: {place} is a file; expected a folder") from error
        except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
            raise CannotWrite(folder, getattr(error, "strerror", None) or error) from error
        yield
    finally:
        _remove_empty(made)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError, ValueError):  # one that holds something, is gone, or has an impossible name
            folder.rmdir()


def move_files(source: Path, target: Path, aside: Path, claim: Claim, sources: Sequence[Path] = ()) -> None:
    """Move all files of `source` to the same places in `target`, or none; what earlier runs left there goes.

    Args:
        source: the folder that is emptied.
        target: the folder that is filled.
        aside: an empty folder beside `source`; it takes what `target` had under the names of the claim.
        claim: names that the run may write.
        sources: files and folders that the run has read.

    Raises:
        ValueError: a name is taken by what may not be replaced.
    """
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    before = Manifest.read(target)
    claim.check(target, sources, names)  # again: a user may have put something there meanwhile
    former = [name for name in claim.former_files(before) if before.owns(name)]
    with ExitStack() as undo:
        # Old and new contents are ours while files move, so that a run that is killed here blocks no later one.
        undo.callback(before.write)
        before.with_files(source, names).write()
        for name in former:
            _move(target / name, aside / name, undo)
        for name in names:
            _move(source / name, target / name, undo)
        before.without([*claim.former_files(before), *names]).with_files(target, names).write()
        undo.pop_all()
    _remove_empty({(target / name).parent for name in former} - {target})


def _move(place: Path, goal: Path, undo: ExitStack) -> None:
    """Move one file, and note how to take that back before each step: an interrupt may come between the two."""
    for folder in reversed([parent for parent in goal.parents if not parent.exists()]):
        undo.callback(_remove_empty, [folder])
        folder.mkdir()
    undo.callback(_move_if_there, goal, place)
    place.replace(goal)


def _move_if_there(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        source.replace(target)
