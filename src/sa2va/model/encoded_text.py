"""Hold a conversation as tokens, with labels and the places of its mask tokens.

Flow: Turn -> processor.py -> EncodedText -> Batch.
"""

from dataclasses import dataclass, field
from typing import Self

from sa2va.tokens import IGNORE_INDEX


@dataclass
class EncodedText:
    """A conversation, or one turn of it."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)  # IGNORE_INDEX where the language loss does not look
    seg_columns: list[int] = field(default_factory=list)  # of each mask token
    seg_objects: list[int] = field(default_factory=list)  # each object that is meant, once however many its tokens
    visual_index: list[int] = field(default_factory=list)  # of each image place, its visual token among the sample's

    def add(self, turn: Self) -> None:
        """Append a further turn."""
        self.seg_columns += [len(self.ids) + column for column in turn.seg_columns]
        for name in ("ids", "labels", "seg_objects", "visual_index"):
            getattr(self, name).extend(getattr(turn, name))

    def cut(self, max_tokens: int, task: str) -> "EncodedText":
        """Cut the answer of a first turn at the budget of its row.

        Raises:
            ValueError: the question and the mask tokens do not fit.
        """
        needed = max([self.labels.count(IGNORE_INDEX), *self.seg_columns]) + 1  # of the answer at least one token
        if needed > max_tokens:
            raise ValueError(
                f"{task or 'sample'}: question, pictures and mask tokens take {needed} tokens, max_tokens is "
                f"{max_tokens}; raise max_tokens or take fewer or smaller pictures"
            )
        kept = self.ids[:max_tokens], self.labels[:max_tokens]
        return EncodedText(*kept, self.seg_columns, self.seg_objects, self.visual_index)
