"""Assign fixations to words, by speech timing or by the word indices a dataset recorded.

Flow: fixation onsets, word onsets -> pack_indices -> scanpath.py.
Source: RefCOCO-Gaze, whose recorded word indices follow this rule: a fixation belongs to the word that is spoken at its
    onset, without a latency. A pause belongs to the word before it, since pack indices must not decrease.
Shapes: N words, K fixations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BEFORE_OR_PAUSE = -99  # as recorded in RefCOCO-Gaze
AFTER = 99


@dataclass(frozen=True, kw_only=True)
class SpeechTiming:
    """Onsets and ends of spoken words, ms from the beginning of the sound."""

    onsets: tuple[float, ...]  # (N,)
    ends: tuple[float, ...]  # (N,)
    duration: float  # of the whole sound

    def __post_init__(self) -> None:
        if len(self.onsets) != len(self.ends):
            raise ValueError(f"timing: {len(self.onsets)} onsets and {len(self.ends)} ends, expected equal counts")
        clock = [moment for word in zip(self.onsets, self.ends, strict=True) for moment in word] + [self.duration]
        for earlier, later in zip(clock, clock[1:], strict=False):
            if not earlier <= later:
                raise ValueError(f"timing: {later} ms follows {earlier} ms, expected onset, end, onset, end, duration")


def spoken_word(start: float, timing: SpeechTiming) -> int | None:
    """Find the word that is spoken at a time.

    Args:
        start: ms from the beginning of the sound.
        timing: Times of the N words.

    Returns:
        0..N - 1; N after the sound; None before the first word and in a pause.
    """
    candidates = [
        number
        for number, (onset, end) in enumerate(zip(timing.onsets, timing.ends, strict=True))
        if onset <= start <= end
    ]
    if candidates:
        return candidates[-1]  # the later of two adjacent words
    return len(timing.onsets) if start >= timing.duration else None


def pack_indices(starts: Sequence[float], timing: SpeechTiming, latency: float = 0.0) -> list[int]:
    """Compute the pack index of each fixation; a pause belongs to the word before it.

    Args:
        starts: (K,) fixation onsets, ms from the beginning of the sound.
        timing: Times of the N words.
        latency: ms from a word to the saccade it can cause. RefCOCO-Gaze uses 0; other work uses 200.

    Returns:
        K indices: 0 before the first word, 1..N, N + 1 after the sound.
    """
    over = len(timing.onsets)
    moments = [start - latency for start in starts]
    return [
        over + 1 if spoken_word(moment, timing) == over else sum(onset <= moment for onset in timing.onsets)
        for moment in moments
    ]


def pack_indices_from_words(word_indices: Sequence[int], num_words: int) -> list[int]:
    """Convert recorded word indices to pack indices, for data without speech timing.

    Args:
        word_indices: (K,) 0..N - 1, AFTER, or BEFORE_OR_PAUSE, which repeats the previous fixation's pack.
        num_words: N.

    Returns:
        K indices, 0..N + 1.
    """
    packs: list[int] = []
    for index in word_indices:
        if index == BEFORE_OR_PAUSE:
            packs.append(packs[-1] if packs else 0)
        elif index == AFTER:
            packs.append(num_words + 1)
        elif 0 <= index < num_words:
            packs.append(index + 1)
        else:
            raise ValueError(f"word index {index}: expected 0..{num_words - 1}, {BEFORE_OR_PAUSE} or {AFTER}")
    return packs
