"""Read the text of an answer from its tokens: where it ends, where a stop string cuts it, what no later token changes.

Flow: token ids of Decoding -> AnswerText -> engine.py (text and objects), conversation.py (pieces of a stream).
"""

from collections.abc import Sequence

from sa2va.model.processor import Processor

_MARGIN = 4  # tokens before a stop string in the decoded tail: a tokenizer may change the first characters it decodes


class AnswerText:
    """Text of one answer, which ends at the end string of the template or before the first stop string."""

    def __init__(self, processor: Processor, stop: tuple[str, ...] = ()) -> None:
        """Args:
        processor: decodes the tokens.
        stop: stop strings; the text is cut before the first that it contains.
        """
        self._processor, self._stop = processor, stop
        self._tail = max((len(one.encode()) for one in stop), default=0) + _MARGIN  # a token has at least one byte

    def has_ended(self, token_ids: Sequence[int]) -> bool:
        """Return whether the newest token completes an end string of the template or a stop string."""
        if self._processor.has_ended(token_ids):
            return True
        if not self._find(self._processor.decode(token_ids[-self._tail :])):
            return False
        return bool(self._find(self._processor.decode(token_ids)))  # the tail may decode differently by itself

    def read(self, token_ids: Sequence[int]) -> str:
        """Return the text, special tokens included, cut before the first stop string."""
        text = self._processor.decode(token_ids)
        return text[: min(found)] if (found := self._find(text)) else text

    def cut(self, token_ids: Sequence[int]) -> tuple[list[int], str]:
        """Return the tokens that the text needs and the text; the last token may begin a stop string."""
        kept, text = list(token_ids), self.read(token_ids)
        if text != self._processor.decode(kept):
            while kept and self._processor.decode(kept[:-1]).startswith(text):
                kept.pop()
        return kept, text

    def is_settled(self, text: str) -> bool:
        """Return whether no later token changes this text: no partial character or stop string at its end."""
        halves = tuple(one[:length] for one in self._stop for length in range(1, len(one)))
        return self._processor.is_settled(text) and not text.endswith(halves)

    def _find(self, text: str) -> list[int]:
        """Return where stop strings begin in a text, the first place of each."""
        return [place for one in self._stop if (place := text.find(one)) >= 0]
