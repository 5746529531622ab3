"""Charge fixations to words: by the clock of the speech, or by the word numbers a dataset recorded.

Flow: starts of fixations, onsets of words -> pack_indices -> scanpath.py.
Source: RefCOCO-Gaze, whose recorded word numbers follow this rule: a fixation belongs to the word that is spoken
    when it begins, without a latency. Silence between two words is charged to the word before it, because a pack
    number must never fall.
Shapes: N words, K fixations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BEFORE_OR_PAUSE = -99  # as recorded in RefCOCO-Gaze
AFTER = 99


@dataclass(frozen=True, kw_only=True)
class SpeechTiming:
    """When each word is spoken. All in ms, 0 is where the sound begins."""

    onsets: tuple[float, ...]  # (N,)
    ends: tuple[float, ...]  # (N,)
    duration: float  # of the whole sound

    def __post_init__(self) -> None:
        if len(self.onsets) != len(self.ends):
            raise ValueError(f"timing: {len(self.onsets)} onsets and {len(self.ends)} ends, expected as many")
        clock = [moment for word in zip(self.onsets, self.ends, strict=True) for moment in word] + [self.duration]
        for earlier, later in zip(clock, clock[1:], strict=False):
            if not earlier <= later:
                raise ValueError(f"timing: {later} ms follows {earlier} ms, expected onset, end, onset, end, duration")


def spoken_word(start: float, timing: SpeechTiming) -> int | None:
    """Number of the word that is being spoken.

    Args:
        start: ms after the beginning of the sound.
        timing: of the words.

    Returns:
        0..N - 1; N once the sound is over; None before the first word and in a pause.
    """
    candidates = [
        number
        for number, (onset, end) in enumerate(zip(timing.onsets, timing.ends, strict=True))
        if onset <= start <= end
    ]
    if candidates:
        return candidates[-1]  # where two words touch, the later one
    return len(timing.onsets) if start >= timing.duration else None


def pack_indices(starts: Sequence[float], timing: SpeechTiming, latency: float = 0.0) -> list[int]:
    """Pack of each fixation; a pause between words counts for the word before it.

    Args:
        starts: (K,) ms after the beginning of the sound.
        timing: of the N words.
        latency: ms from hearing to moving the eyes. 0 is the rule of the recordings; other work uses 200.

    Returns:
        K numbers: 0 before the first word, 1..N, N + 1 once the sound is over.
    """
    over = len(timing.onsets)
    heard = [start - latency for start in starts]
    return [
        over + 1 if spoken_word(moment, timing) == over else sum(onset <= moment for onset in timing.onsets)
        for moment in heard
    ]


def carried_indices(word_indices: Sequence[int], num_words: int) -> list[int]:
    """Pack of each fixation from recorded word numbers, where no clock is at hand.

    Args:
        word_indices: (K,) 0..N - 1, AFTER, or BEFORE_OR_PAUSE, which after the first word keeps the pack of the
            fixation before.
        num_words: N.

    Returns:
        K numbers, 0..N + 1.
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
            raise ValueError(f"word number {index}: expected 0..{num_words - 1}, {BEFORE_OR_PAUSE} or {AFTER}")
    return packs
