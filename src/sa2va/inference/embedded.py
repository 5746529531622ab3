"""Say once per process that the embedded model knows drawn shapes only, where it is shown anything else.

Flow: Answerer, GazeStream with media -> warn_once(); what we draw ourselves goes through drawn_scenes() -> nothing.
"""

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
_said = False


class OutOfWorldWarning(UserWarning):
    """The embedded model is used on media that are not ours."""


def warn_once(stacklevel: int = 2) -> None:
    """Warn that answers are guesses, unless this process has said so or shows scenes that we drew."""
    global _said
    if not (_said or _shows_drawn_scenes.get()):
        _said = True
        warnings.warn(NOTE, OutOfWorldWarning, stacklevel=stacklevel + 1)


@contextmanager
def drawn_scenes() -> Generator[None]:
    """Show the embedded model what it has learned, without a warning."""
    token = _shows_drawn_scenes.set(True)
    try:
        yield
    finally:
        _shows_drawn_scenes.reset(token)
