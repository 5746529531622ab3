"""Define EncodedText: token ids with labels and the positions of mask tokens.

Flow: Turn -> processor.py -> EncodedText -> Batch.
"""

from dataclasses import dataclass, field
from typing import Self

from sa2va.tokens import IGNORE_INDEX


@dataclass
class EncodedText:
    """Token ids of a conversation or of one turn, with labels and mask token positions."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)  # IGNORE_INDEX at tokens without language loss
    seg_columns: list[int] = field(default_factory=list)  # index of each mask token in `ids`
    seg_objects: list[int] = field(default_factory=list)  # object of each group of mask tokens, in order
    visual_index: list[int] = field(default_factory=list)  # image token -> index among the sample's visual tokens

    def add(self, turn: Self) -> None:
        """Append a turn."""
        self.seg_columns += [len(self.ids) + column for column in turn.seg_columns]
        for name in ("ids", "labels", "seg_objects", "visual_index"):
            getattr(self, name).extend(getattr(turn, name))

    def cut(self, max_tokens: int, task: str) -> "EncodedText":
        """Truncate a first turn to `max_tokens` at the end of its answer.

        Raises:
            ValueError: the question and the mask tokens do not fit.
        """
        needed = max([self.labels.count(IGNORE_INDEX), *self.seg_columns]) + 1  # at least one token of the answer
        if needed > max_tokens:
            raise ValueError(
                f"{task or 'sample'}: question, pictures and mask tokens take {needed} tokens, max_tokens is "
                f"{max_tokens}; raise max_tokens or take fewer or smaller pictures"
            )
        kept = self.ids[:max_tokens], self.labels[:max_tokens]
        return EncodedText(*kept, self.seg_columns, self.seg_objects, self.visual_index)
