"""Tell how long words take to say: predicted from each word alone, or spoken by a synthetic voice.

Flow: words, one at a time -> predict_duration, predict_timing -> SpeechTiming of a stream that has no recording;
    whole expressions -> speak -> SpeechTiming of the drawn world.
Source: fitted to the 10,127 words of RefCOCO-Gaze's word-timing.json, arXiv:2407.19605. From the word alone R2 is
    0.72 and the rest 74 ms; with its place in the expression 0.82 and 60 ms.
Shapes: N words.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sa2va.gaze.timing import SpeechTiming

FIRST_ONSET = 50.0  # ms from the beginning of the sound to the first word
MIN_DURATION = 50.0  # ms, of the shortest word

# Words that carry no stress are said faster than their letters tell, articles most of all.
ARTICLES = frozenset({"a", "an", "the"})
UNSTRESSED = ARTICLES | frozenset("and at by for from in is of on that to with".split())


@dataclass(frozen=True)
class _Law:
    """Duration of a word as a sum, ms."""

    base: float
    letter: float
    syllable: float
    unstressed: float
    article: float  # on top of unstressed
    residual: float  # SD around it

    def mean(self, word: str) -> float:
        low = word.lower()
        stress = self.unstressed * (low in UNSTRESSED) + self.article * (low in ARTICLES)
        return self.base + self.letter * len(word) + self.syllable * count_syllables(word) + stress


_ALONE = _Law(172.6, 29.4, 60.7, -113.5, -102.1, 73.9)
_PLACED = _Law(139.5, 27.9, 68.2, -85.3, -100.2, 36.0)  # with _LENGTHENING for the last word; one word said twice
_LENGTHENING = 112.3

_PAUSE_SHARE = 0.05  # of the places between two words
_PAUSE = (30.0, 140.0)  # ms
_FIRST_ONSETS = (40.0, 70.0)  # ms


def count_syllables(word: str) -> int:
    """Count the syllables of an English word by its groups of vowels; at least 1."""
    letters = re.sub("[^a-z]", "", word.lower())
    groups = len(re.findall("[aeiouy]+", letters))
    silent = letters.endswith("e") and not letters.endswith(("le", "ee"))
    return max(1, groups - silent)


def predict_duration(word: str, rng: np.random.Generator | None = None) -> float:
    """Predict how long a word takes to say, whatever comes before or after it.

    Args:
        word: any text without white space.
        rng: None gives the mean; a generator gives a draw around it.

    Returns:
        ms, at least MIN_DURATION.
    """
    if not word.strip():
        raise ValueError(f"word {word!r}: expected a word to say, got nothing")
    mean = _ALONE.mean(word)
    return max(MIN_DURATION, mean if rng is None else float(rng.normal(mean, _ALONE.residual)))


def predict_timing(words: Iterable[str], rng: np.random.Generator | None = None) -> SpeechTiming:
    """Put predicted words one after the other. What is said of word k depends on words 0..k alone.

    Args:
        words: N, as they come.
        rng: None gives mean durations; a generator gives draws, equal for equal beginnings.

    Returns:
        N onsets and ends; the sound ends with the last word.
    """
    onsets, ends = [], []
    moment = FIRST_ONSET
    for word in words:
        onsets.append(moment)
        moment += predict_duration(word, rng)
        ends.append(moment)
    return SpeechTiming(onsets=tuple(onsets), ends=tuple(ends), duration=moment)


def speak(words: Sequence[str], rng: np.random.Generator) -> SpeechTiming:
    """Say a whole expression as the voice of the recordings does: the last word is long, and there are pauses.

    Args:
        words: N.
        rng: of durations and pauses.

    Returns:
        N onsets and ends; the sound ends with the last word.
    """
    onsets, ends = [], []
    moment = float(rng.uniform(*_FIRST_ONSETS))
    for number, word in enumerate(words):
        last = number == len(words) - 1
        mean = _PLACED.mean(word) + _LENGTHENING * last
        onsets.append(moment)
        moment += max(MIN_DURATION, float(rng.normal(mean, _PLACED.residual)))
        ends.append(moment)
        if not last and rng.random() < _PAUSE_SHARE:
            moment += float(rng.uniform(*_PAUSE))
    return SpeechTiming(onsets=tuple(onsets), ends=tuple(ends), duration=moment)
