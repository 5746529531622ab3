"""Place grounded phrases in a caption so that none overlaps another.

Flow: offsets of an annotation file -> Phrase -> separate, strip_caption -> spans of a grounded caption (gcg.py).
Source: GLaMM, arXiv:2311.03356. Its captions have nested phrases ("a man in a red shirt", "a red shirt"), phrases that
    several objects share, and quotes around the whole; offsets count from the caption as stored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

QUOTES = ' \t\r\n"'
_EDGES = " \t\r\n,;:."  # not part of what is left of a phrase


@dataclass(frozen=True)
class Phrase:
    """A phrase of a caption with its objects."""

    start: int  # characters
    end: int
    objects: tuple[int, ...]


def find_phrases(caption: str, texts: Sequence[str]) -> list[Phrase]:
    """Find phrases in a caption, whatever their case; one per text that is found, whose object is the text's place.

    Phrases are whole words. Equal texts take one occurrence after the other, and share the last one.
    """
    found = []
    taken: dict[str, int] = {}
    for place, text in enumerate(texts):
        pattern = rf"(?<!\w){re.escape(text.strip())}(?!\w)"
        matches = list(re.finditer(pattern, caption, re.IGNORECASE)) if text.strip() else []
        if matches:
            key = text.strip().lower()
            match = matches[min(taken.get(key, 0), len(matches) - 1)]
            taken[key] = taken.get(key, 0) + 1
            found.append(Phrase(match.start(), match.end(), (place,)))
    return found


def separate(caption: str, phrases: Sequence[Phrase]) -> list[Phrase]:
    """Cut overlapping phrases apart, in the order of the caption.

    A character of several phrases belongs to the one that starts last, or else to the shortest. What is left of the
    others is their first run of words. Equal phrases are joined, and so is one of which no word is left with the one
    that has its first.

    Raises:
        ValueError: a phrase lies outside the caption or has no word.
    """
    order = sorted(phrases, key=lambda one: (one.start, -one.end))
    owners = [-1] * len(caption)
    for place, one in enumerate(order):
        if not 0 <= one.start < one.end <= len(caption) or not _has_word(caption[one.start : one.end]):
            raise ValueError(
                f"phrase {one.start}:{one.end} of the caption {caption!r:.60} of {len(caption)} characters has no word"
            )
        owners[one.start : one.end] = [place] * (one.end - one.start)
    spans: dict[int, tuple[int, int]] = {}
    members: dict[int, list[int]] = {place: [] for place in range(len(order))}
    for place, one in enumerate(order):
        spans[place] = _first_run(caption, owners, place, one)
        first = next(at for at in range(one.start, one.end) if caption[at].isalnum())
        heir = place if spans[place] != (0, 0) else owners[first]  # which keeps a run with that character
        members[heir] += one.objects
    kept = [Phrase(*spans[place], tuple(members[place])) for place in members if spans[place] != (0, 0)]
    return sorted(kept, key=lambda one: one.start)


def strip_caption(caption: str, phrases: Sequence[Phrase]) -> tuple[str, list[Phrase]]:
    """Remove quotes and spaces around a caption, and move its phrases along."""
    text = caption.strip(QUOTES)
    lead = len(caption) - len(caption.lstrip(QUOTES))
    moved = [(max(one.start - lead, 0), min(one.end - lead, len(text)), one.objects) for one in phrases]
    return text, [Phrase(*one) for one in moved]


def _first_run(caption: str, owners: Sequence[int], place: int, phrase: Phrase) -> tuple[int, int]:
    """Return the first run of characters of a phrase that has a word, without spaces and commas around it."""
    start = phrase.start
    while start < phrase.end:
        end = start
        while end < phrase.end and owners[end] == place:
            end += 1
        text = caption[start:end]
        if _has_word(text):
            if end - start < phrase.end - phrase.start:  # an uncut phrase stays as annotated
                start, end = end - len(text.lstrip(_EDGES)), start + len(text.rstrip(_EDGES))
            return start, end
        start = end + 1
    return 0, 0


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)
