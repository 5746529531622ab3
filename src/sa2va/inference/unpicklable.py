"""Refuse to copy or pickle what belongs to one process: weights, caches, open sources.

Flow: Predictor, Conversation, TrackSession, gaze's predictor and streams inherit Unpicklable.
"""

from typing import NoReturn, SupportsIndex


class Unpicklable:
    """Refuse to be copied or pickled, in one line.

    Attributes:
        instead: advice that ends the message.
    """

    instead: str

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"cannot copy or pickle a {type(self).__name__}; {self.instead}")
