"""Write the results of a run all or not at all: files appear in the user's folder when every one is complete.

Flow: command or Prediction.save -> staged(folder) -> hidden scratch folder inside it -> moved into place at the end,
    with rollback, or removed; new_folder(folder) -> atomic.whole_folder, for folders that must not exist yet.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sa2va.files.atomic import CannotWrite, refusals, refusals_in, whole_folder
from sa2va.files.claim import Claim
from sa2va.files.manifest import Manifest
from sa2va.files.scratch import open_scratch


@contextmanager
def staged(folder: str | Path | None, claim: Claim, sources: Sequence[Path] = ()) -> Generator[Path | None]:
    """Yield a scratch folder whose files move into `folder` on success.

    Files of the claim that an earlier run left in `folder` are removed. A file that is not ours, was changed since, or
    is an input of this run is never replaced: it is an error before the block runs.

    The scratch folder is inside `folder`, so that moving is renaming, and a full or read-only disk fails before any
    work is done.

    Args:
        folder: folder for the results; None = write nothing.
        claim: names that the run may write.
        sources: files and folders that the run reads.

    Raises:
        ValueError: `folder` is a file, or cannot be created or written, or holds a file that may not be replaced.
    """
    if folder is None:
        yield None
        return
    if not str(folder):
        raise ValueError("the name of the output folder is empty; give a folder such as 'out'")
    folder = Path(folder)
    with _made(folder, folder), ExitStack() as stack:
        with refusals(folder):
            scratch = stack.enter_context(open_scratch(folder))
        claim.check(folder, sources)
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        old.mkdir()
        with refusals_in(new, folder):
            yield new
            _move_files(new, folder, old, claim, sources)


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """Yield a scratch folder that becomes `folder` by one rename on success.

    Raises:
        ValueError: `folder` exists and is not empty, or cannot be written.
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
    """Remove the files of a claim that an earlier run left, and the folder if it is then empty."""
    if folder.is_dir():
        with staged(folder, claim, sources):
            pass
        _remove_empty([folder])


@contextmanager
def _made(place: Path, folder: Path) -> Generator[None]:
    """Make `place`, in which `folder` will be written; remove it at the end if it is still empty."""
    try:
        made = [parent for parent in (place, *place.parents) if not parent.exists()]
    except OSError as error:
        raise CannotWrite(folder, error.strerror or error) from error
    try:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ValueError(f"output folder {str(folder)!r}: {place} is a file; expected a folder") from error
        except (OSError, ValueError) as error:  # ValueError: an impossible name
            raise CannotWrite(folder, getattr(error, "strerror", None) or error) from error
        yield
    finally:
        _remove_empty(made)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError, ValueError):  # not empty, already gone, or an impossible name
            folder.rmdir()


def _move_files(source: Path, target: Path, aside: Path, claim: Claim, sources: Sequence[Path] = ()) -> None:
    """Move all files of `source` to the same names in `target`, or none; remove the files of earlier runs.

    Args:
        source: folder to empty.
        target: folder to fill.
        aside: empty folder beside `source`, for the files of the claim that were in `target`.
        claim: names that the run may write.
        sources: files and folders that the run has read.

    Raises:
        ValueError: a name is taken by a file that may not be replaced.
    """
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    before = Manifest.read(target)
    claim.check(target, sources, names)  # again: a user may have put something there meanwhile
    former = [name for name in claim.former_files(before) if before.owns(name)]
    with ExitStack() as undo:
        # While files move, the manifest lists old and new content, so that a run killed here blocks no later one.
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
    """Move one file; register each undo step first, since an interrupt may come in between."""
    for folder in reversed([parent for parent in goal.parents if not parent.exists()]):
        undo.callback(_remove_empty, [folder])
        folder.mkdir()
    undo.callback(_move_if_there, goal, place)
    place.replace(goal)


def _move_if_there(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        source.replace(target)
