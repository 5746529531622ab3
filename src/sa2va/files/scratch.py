"""Lend hidden scratch folders, and remove those that killed runs left behind.

Flow: staging.py, files.py -> open_scratch(folder) -> `.sa2va-*` inside it, locked while its run lives, removed at the
    end.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

PREFIX, UNLOCKED = ".sa2va-", ".sa2va_new-"
LOCK = "lock"  # held by the run that made the folder; the system lets go of it when the process ends, however it ends


@contextmanager
def open_scratch(folder: Path) -> Generator[Path]:
    """Give an empty scratch folder inside `folder`; it is removed when the block ends.

    Scratch folders of runs that were killed are removed first.

    Raises:
        OSError: `folder` cannot be written.
    """
    from filelock import FileLock

    sweep(folder)
    made = Path(mkdtemp(prefix=UNLOCKED, dir=folder))
    scratch = made.with_name(PREFIX + made.name.removeprefix(UNLOCKED))
    try:
        with FileLock(made / LOCK):
            # The name that `sweep` looks for comes last, so that it never meets a live folder without its lock.
            made.rename(scratch)
            inner = scratch / "files"
            inner.mkdir()
            yield inner
    finally:
        for place in (made, scratch):
            shutil.rmtree(place, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the scratch folders in `folder` whose run has ended without doing so."""
    from filelock import FileLock, Timeout

    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX)]
    for scratch in found:
        if not (scratch / LOCK).is_file():
            continue  # not made by open_scratch
        try:
            with FileLock(scratch / LOCK, timeout=0):
                shutil.rmtree(scratch, ignore_errors=True)
        except (Timeout, OSError):  # its run is alive, or it belongs to another user
            continue
