"""Warn once per process when the embedded model gets media other than synthetic scenes.

Flow: Engine, GazeStream with media -> warn_once(), silent within drawn_scenes().
"""

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

NOTE = (
    "the embedded model was trained on synthetic scenes only, so its answers on other media are guesses; use a "
    "published model, as in sa2va segment photo.jpg 'the dog' --model ByteDance/Sa2VA-4B, or in Python "
    "sa2va.load('ByteDance/Sa2VA-4B')"
)

_within_drawn_scenes = ContextVar("_within_drawn_scenes", default=False)
_lock = threading.Lock()
_warned = False


class OutOfWorldWarning(UserWarning):
    """The embedded model got media other than synthetic scenes."""


def warn_once(stacklevel: int = 2) -> None:
    """Emit OutOfWorldWarning once per process, never within `drawn_scenes`."""
    global _warned
    if _within_drawn_scenes.get():
        return
    with _lock:
        first, _warned = not _warned, True
    if first:
        warnings.warn(NOTE, OutOfWorldWarning, stacklevel=stacklevel + 1)


@contextmanager
def drawn_scenes() -> Generator[None]:
    """Mark media within the block as synthetic scenes, which need no warning."""
    token = _within_drawn_scenes.set(True)
    try:
        yield
    finally:
        _within_drawn_scenes.reset(token)
