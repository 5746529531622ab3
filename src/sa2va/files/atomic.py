"""Write files and folders atomically: they appear complete or not at all.

Flow: a writer -> whole_file, whole_folder (a temporary name beside the target) -> fsync -> rename. A killed process
    leaves the previous content and a hidden draft.
"""

import errno
import glob
import os
import re
import uuid
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sa2va.files.scratch import open_scratch

# Error codes that mean a disk error even without a file name; others may come from a pipe or the network.
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
DRAFT_LETTERS = 8  # random ones in the name of a temporary file
FROM_RUST = re.compile(r"\(os error \d+\)")  # in the text of SafetensorError and other exceptions


class CannotWrite(ValueError):
    """Error of a write that the disk refused; the message is one line that names the file."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path}: cannot be written ({reason}); free the disk or choose another folder")
        self.path, self.reason = path, reason


@contextmanager
def refusals(path: Path, part: Path | None = None) -> Generator[None]:
    """Convert errors of the disk to CannotWrite.

    Args:
        path: the file or folder, as the user knows it.
        part: its temporary name; errors about other files pass unchanged.

    Raises:
        CannotWrite: instead of an OSError, or of the exceptions of libraries written in Rust.
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
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on an error.

    Missing folders are made. The content is flushed before the rename, so that no crash leaves an empty file.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:DRAFT_LETTERS]}{path.suffix}")
    try:
        with refusals(path, part):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            flush(part)
            os.replace(part, path)
    finally:
        with suppress(OSError):  # it may not exist
            part.unlink()


def remove_drafts(path: Path) -> None:
    """Remove the temporary files that killed processes left beside `path`; no other process may be writing it."""
    for draft in path.parent.glob(f".{glob.escape(path.stem)}.{'[0-9a-f]' * DRAFT_LETTERS}{glob.escape(path.suffix)}"):
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Yield a scratch folder beside `folder`; move its files into `folder` on success.

    A new folder appears by one rename. In an existing folder each file replaces its predecessor by one rename, and
    other files stay.

    Raises:
        CannotWrite: the disk refuses a file; `folder` is unchanged.
    """
    beside = folder.resolve().parent
    with refusals(folder):
        beside.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with refusals(folder, beside):
            draft = stack.enter_context(open_scratch(beside)) / folder.name
            draft.mkdir()
        with refusals_in(draft, folder):
            yield draft
            for path in (*draft.rglob("*"), draft):
                flush(path)
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
def refusals_in(draft: Path, folder: Path) -> Generator[None]:
    """Convert errors of the disk to CannotWrite, and name files of `draft` by their targets in `folder`."""
    try:
        with refusals(folder, draft):
            yield
    except CannotWrite as error:
        if not error.path.is_relative_to(draft):
            raise
        raise CannotWrite(folder / error.path.relative_to(draft), error.reason) from error


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
