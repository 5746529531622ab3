"""Define GroundedTurn: a turn of the drawn world with the objects that each question word may refer to.

Flow: tasks -> GroundedTurn -> world/training/word_grounding.py.
"""

from dataclasses import dataclass

from sa2va.types import Span, Turn


@dataclass(frozen=True, kw_only=True)
class GroundedTurn(Turn):
    """A turn whose question words are grounded in objects of the scene."""

    possible: tuple[Span, ...] = ()  # words of the question, each with the objects still possible after it
    nouns: tuple[Span, ...] = ()  # words of noun phrases, each with the objects that the phrase fits so far

    def __post_init__(self) -> None:
        for span in (*self.possible, *self.nouns):
            span.check(self.question, "question")
