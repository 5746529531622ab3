"""Warn once per process that the embedded model knows drawn shapes only.

Flow: Engine, GazeStream with media -> warn_once(), which says nothing within drawn_scenes().
"""

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

NOTE = (
    "the embedded model knows drawn shapes and nothing else, so what it says of other pictures is a guess; take a "
    "published model for them, as in sa2va segment photo.jpg 'the dog' --model ByteDance/Sa2VA-4B, or in Python "
    "sa2va.load('ByteDance/Sa2VA-4B')"
)

_shows_drawn_scenes = ContextVar("_shows_drawn_scenes", default=False)
_lock = threading.Lock()
_said = False


class OutOfWorldWarning(UserWarning):
    """The embedded model is used on media other than drawn scenes."""


def warn_once(stacklevel: int = 2) -> None:
    """Warn that answers are guesses, unless this process has warned before or shows drawn scenes."""
    global _said
    if _shows_drawn_scenes.get():
        return
    with _lock:
        first, _said = not _said, True
    if first:
        warnings.warn(NOTE, OutOfWorldWarning, stacklevel=stacklevel + 1)


@contextmanager
def drawn_scenes() -> Generator[None]:
    """Mark media within the block as drawn scenes, which need no warning."""
    token = _shows_drawn_scenes.set(True)
    try:
        yield
    finally:
        _shows_drawn_scenes.reset(token)
