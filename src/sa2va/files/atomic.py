"""Write files and folders that appear complete or not at all, and name the one that the disk refuses.

Flow: whoever writes -> whole_file, whole_folder (a temporary name beside the place) -> flushed to the disk -> renamed.
    A kill leaves what was there before, and a hidden draft.
"""

import errno
import os
import re
import uuid
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sa2va.files.scratch import open_scratch

# What a write that does not know its file's name is refused with; others, as of a pipe or a network, are not ours.
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
FROM_RUST = re.compile(r"\(os error \d+\)")  # in exceptions of many classes: SafetensorError, plain Exception


class CannotWrite(ValueError):
    """What the disk refuses to take, in one line that names it."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path}: cannot be written ({reason}); free the disk or choose another folder")
        self.path, self.reason = path, reason


@contextmanager
def refusals(path: Path, part: Path | None = None) -> Generator[None]:
    """Name `path` in whatever the disk refuses while it is written.

    Args:
        path: as the user knows it.
        part: as it is called until it is complete; errors about other files stay as they are.

    Raises:
        CannotWrite: in the place of an `OSError`, or of what libraries written in Rust raise instead.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        is_about = str(part or path) in str(name) or str(path).startswith(str(name))
        if not is_about if name is not None else error.errno not in REFUSED:
            raise
        raise CannotWrite(path, error.strerror or error) from error
    except CannotWrite:
        raise
    except Exception as error:
        if not FROM_RUST.search(str(error)):
            raise
        raise CannotWrite(path, error) from error


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Lend a temporary name beside `path`; rename it to `path` after success, remove it after an error.

    Missing folders are made. The bytes are on the disk before the name is, so that no crash leaves an empty file.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with refusals(path, part):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            flush(part)
            os.replace(part, path)
    finally:
        with suppress(OSError):  # not there, or never was
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Lend a scratch folder beside `folder`; its files take their places in `folder` after success.

    A new folder appears by one rename. In one that is there each file replaces its predecessor by one rename, and
    what else lies there stays.

    Raises:
        CannotWrite: the disk refuses a file; `folder` is as before.
    """
    beside = folder.resolve().parent
    with refusals(folder):
        beside.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with refusals(folder, beside):
            draft = stack.enter_context(open_scratch(beside)) / folder.name
            draft.mkdir()
        with told_as(draft, folder), refusals(folder, draft):
            yield draft
            flush_tree(draft)
            if folder.is_dir() and any(folder.iterdir()):
                for file in sorted(path for path in draft.rglob("*") if path.is_file()):
                    place = folder / file.relative_to(draft)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file, place)
            else:
                if folder.is_dir():
                    folder.rmdir()  # not every system renames over a folder, even an empty one
                os.replace(draft, folder)
            flush(beside)


@contextmanager
def told_as(scratch: Path, folder: Path) -> Generator[None]:
    """Name what cannot be written in `scratch` by the place in `folder` that it was meant for."""
    try:
        yield
    except CannotWrite as error:
        if not error.path.is_relative_to(scratch):
            raise
        raise CannotWrite(folder / error.path.relative_to(scratch), error.reason) from error


def flush(path: Path) -> None:
    """Make the operating system write a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Make the operating system write all that is in a folder to the disk."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)
