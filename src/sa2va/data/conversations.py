"""Read conversations in the layout of LLaVA: a list of {"from": "human" or "gpt", "value": text}.

Flow: record of an annotation file -> read_conversation -> Conversation -> build_turns -> Sample.turns.
Source: LLaVA, arXiv:2304.08485. We differ where a marker stands behind the question: the released training puts the
    visual tokens there, here they always come first, as at prediction.
"""

import re
from collections.abc import Sequence

from sa2va.data.records import Record
from sa2va.types import Turn

IMAGE_MARKER = "<image>"
VIDEO_MARKER = "<video>"

# Questions with their answers, kept as texts: a Turn takes several times the memory.
Conversation = Sequence[tuple[str, str]]


def read_conversation(record: Record, *markers: str) -> Conversation:
    """Read the conversation of a record.

    Successive turns of one speaker are joined by a line break. A blank turn counts as none. Answers before the first
    question are dropped, and so is a last question without an answer.

    Args:
        record: holds the list of turns, "conversations".
        markers: markers of media to remove from questions; none for a record without media, whose texts are kept as
            they are. Some sources repeat the marker of their one picture in every question.

    Raises:
        ValueError: a turn is malformed, or no question has an answer.
    """
    spoken: list[tuple[str, str]] = []  # speaker and text, the speakers alternating
    pattern = "|".join(map(re.escape, markers))
    for turn in record.children("conversations", "turn"):
        speaker, text = turn.get("from", str), turn.get("value", str).strip()
        if speaker not in ("human", "gpt"):
            raise turn.error(f"from is {speaker!r:.60}; expected 'human' or 'gpt'")
        if markers and speaker == "human":
            text = "\n".join(part.strip() for part in re.split(pattern, text) if part.strip())
        if not text or (speaker == "gpt" and not spoken):
            continue
        if spoken and spoken[-1][0] == speaker:
            text = f"{spoken.pop()[1]}\n{text}"
        spoken.append((speaker, text))
    texts = [text for _, text in spoken]
    if len(texts) < 2:
        raise record.error("conversations has no question with an answer; remove the record")
    return tuple(zip(texts[::2], texts[1::2], strict=False))


def build_turns(conversation: Conversation) -> tuple[Turn, ...]:
    """Build the turns of a conversation without masks."""
    return tuple(Turn(question=question, answer=answer) for question, answer in conversation)


def count_characters(conversation: Conversation) -> int:
    """Count the characters of all questions and answers."""
    return sum(len(question) + len(answer) for question, answer in conversation)
