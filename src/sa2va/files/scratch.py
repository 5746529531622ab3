"""Make hidden scratch folders, and remove those of killed runs.

Flow: staging.py, atomic.py -> open_scratch(folder) -> `.sa2va-*` inside it, locked while the run lives, removed at the
    end.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

PREFIX, UNLOCKED = ".sa2va-", ".sa2va_new-"
LOCK = "lock"  # held by the run that made the folder; the system releases it when the process ends


@contextmanager
def open_scratch(folder: Path) -> Generator[Path]:
    """Yield an empty scratch folder inside `folder`; remove it at the end, and those of killed runs at the start.

    Raises:
        OSError: `folder` cannot be written.
    """
    from filelock import FileLock

    sweep(folder)
    made = Path(mkdtemp(prefix=UNLOCKED, dir=folder))
    scratch = made.with_name(PREFIX + made.name.removeprefix(UNLOCKED))
    try:
        with FileLock(made / LOCK):
            # Rename after locking, so that `sweep` never finds a live folder without a lock.
            made.rename(scratch)
            inner = scratch / "files"
            inner.mkdir()
            yield inner
    finally:
        for place in (made, scratch):
            shutil.rmtree(place, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the scratch folders of killed runs in `folder`."""
    from filelock import FileLock, Timeout

    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX)]
    for scratch in found:
        if not (scratch / LOCK).is_file():
            continue  # not made by open_scratch
        try:
            with FileLock(scratch / LOCK, timeout=0):
                shutil.rmtree(scratch, ignore_errors=True)
        except (Timeout, OSError):  # the run is alive, or the folder belongs to another user
            continue
