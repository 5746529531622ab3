"""Forbid copying and pickling of objects bound to one process: weights, caches, open sources.

Flow: Engine, Predictor, Conversation, TrackSession and classes of extensions inherit Unpicklable.
"""

from typing import NoReturn, SupportsIndex


class Unpicklable:
    """Base class whose objects can be neither copied nor pickled.

    Attributes:
        instead: advice at the end of the error message.
    """

    instead: str

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"cannot copy or pickle a {type(self).__name__}; {self.instead}")
