"""Begin a resumable run in a folder of its own, continue only the same run, and move finished files into place.

Flow: bulk/plan.py, synth/layout.py -> require_new, require_same; their writers -> placed -> scratch folder of the run
    -> one rename.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa2va.files.atomic import flush, refusals
from sa2va.files.scratch import PREFIX, UNLOCKED, open_scratch


def require_new(folder: Path, mark: str) -> None:
    """Refuse a folder with files of somebody else, before a run begins in it.

    Args:
        folder: of the run; it may be missing.
        mark: name of the file with which a run begins; if it is there, another process has begun the run meanwhile.

    Raises:
        ValueError: it is a file, or holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a new or empty folder; it is a file; choose another")
    others = sorted(one.name for one in folder.iterdir() if not one.name.startswith((PREFIX, UNLOCKED)))
    if others and mark not in others:
        raise ValueError(
            f"{folder}: expected a new or empty folder; it holds other files, such as {others[0]}; choose another"
        )


def require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that holds a run with other settings, JSON values by name.

    Raises:
        ValueError: a setting differs; the message has both values.
    """
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"{folder} holds a run with {name} {found.get(name)!r:.80}, not {wanted.get(name)!r:.80}; choose "
                "another folder"
            )


@contextmanager
def placed(folder: Path, place: Path) -> Generator[Path]:
    """Yield a name in a scratch folder of the run; on success the file moves to `place` by one rename.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    with refusals(place):
        folder.mkdir(parents=True, exist_ok=True)
        with open_scratch(folder) as scratch:
            draft = scratch / place.name
            yield draft
            flush(draft)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft, place)
        flush(place.parent)
