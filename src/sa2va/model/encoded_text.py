"""Define EncodedText: token ids with labels and the positions of mask tokens.

Flow: Turn -> processor.py -> EncodedText -> Batch.
"""

from collections.abc import Sequence
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
    dropped_turns: int = 0  # turns left out because the conversation was too long
    cut_answers: int = 0  # answers that lost tokens at their end

    def add(self, turn: Self) -> None:
        """Append a turn."""
        self.seg_columns += [len(self.ids) + column for column in turn.seg_columns]
        for name in ("ids", "labels", "seg_objects", "visual_index"):
            getattr(self, name).extend(getattr(turn, name))
        self.cut_answers += turn.cut_answers

    def cut(self, max_tokens: int) -> "EncodedText":
        """Truncate a first turn to `max_tokens` at the end of its answer.

        Raises:
            ValueError: the question does not fit, or the answer would lose mask tokens.
        """
        question = next((i for i, label in enumerate(self.labels) if label != IGNORE_INDEX), len(self.labels))
        needed = max([question, *self.seg_columns]) + 1  # at least one token of the answer
        if needed > max_tokens:
            lost = sum(column >= max_tokens for column in self.seg_columns)
            raise ValueError(
                f"question, pictures and {len(self.seg_columns)} mask tokens take {needed} tokens, max_tokens is "
                f"{max_tokens}, so that {lost} mask tokens would be lost; raise max_tokens or take fewer or smaller "
                "pictures"
            )
        kept = self.ids[:max_tokens], self.labels[:max_tokens]
        return EncodedText(*kept, self.seg_columns, self.seg_objects, self.visual_index, cut_answers=1)


def count_texts(rows: Sequence[EncodedText]) -> dict[str, int]:
    """Count tokens, padding and what was left out of the rows of a batch, for `Batch.counts`."""
    lengths = [len(row.ids) for row in rows]
    return {
        "tokens": sum(lengths),
        "padding": max(lengths) * len(rows) - sum(lengths),
        "dropped_turns": sum(row.dropped_turns for row in rows),
        "cut_answers": sum(row.cut_answers for row in rows),
    }
