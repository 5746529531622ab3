"""Predict word durations from the word alone, or sample the timing of a whole spoken expression.

Flow: words, one at a time -> predict_duration, predict_timing -> SpeechTiming of a stream without a recording;
    whole expressions -> sample_timing -> SpeechTiming of simulated trials.
Source: linear fits to the 10,127 words of RefCOCO-Gaze's word-timing.json, arXiv:2407.19605. From the word alone: R2
    0.72, residual SD 74 ms. With its position in the expression: R2 0.82, residual SD 60 ms.
Shapes: N words.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sa2va.gaze.timing import SpeechTiming

FIRST_ONSET = 50.0  # ms from the beginning of the sound to the first word
MIN_DURATION = 50.0  # ms, lower limit of a word

# Unstressed words are shorter than their letters predict, articles most of all.
ARTICLES = frozenset({"a", "an", "the"})
UNSTRESSED = ARTICLES | frozenset("and at by for from in is of on that to with".split())


@dataclass(frozen=True)
class _DurationModel:
    """Linear model of a word's duration, ms."""

    base: float
    letter: float
    syllable: float
    unstressed: float
    article: float  # added to `unstressed`
    residual: float  # SD

    def mean(self, word: str) -> float:
        low = word.lower()
        stress = self.unstressed * (low in UNSTRESSED) + self.article * (low in ARTICLES)
        return self.base + self.letter * len(word) + self.syllable * count_syllables(word) + stress


_WORD_ALONE = _DurationModel(172.6, 29.4, 60.7, -113.5, -102.1, 73.9)
_IN_EXPRESSION = _DurationModel(139.5, 27.9, 68.2, -85.3, -100.2, 36.0)  # residual: SD between repetitions of a word
_LENGTHENING = 112.3  # ms, of the last word of an expression

_PAUSE_SHARE = 0.05  # probability of a pause between two words
_PAUSE = (30.0, 140.0)  # ms
_FIRST_ONSETS = (40.0, 70.0)  # ms


def count_syllables(word: str) -> int:
    """Estimate the number of syllables of an English word from its vowel groups; at least 1."""
    letters = re.sub("[^a-z]", "", word.lower())
    groups = len(re.findall("[aeiouy]+", letters))
    silent = letters.endswith("e") and not letters.endswith(("le", "ee"))
    return max(1, groups - silent)


def predict_duration(word: str, rng: np.random.Generator | None = None) -> float:
    """Predict the duration of a word from the word alone.

    Args:
        word: Any text without white space.
        rng: None = the mean; a generator = a sample.

    Returns:
        ms, at least MIN_DURATION.
    """
    if not word.strip():
        raise ValueError(f"word {word!r}: expected a word, got no text")
    mean = _WORD_ALONE.mean(word)
    return max(MIN_DURATION, mean if rng is None else float(rng.normal(mean, _WORD_ALONE.residual)))


def predict_timing(words: Iterable[str], rng: np.random.Generator | None = None) -> SpeechTiming:
    """Predict the timing of words without pauses. The times of word k depend on words 0..k alone.

    Args:
        words: N.
        rng: None = mean durations; a generator = samples, equal for equal prefixes.

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


def sample_timing(words: Sequence[str], rng: np.random.Generator) -> SpeechTiming:
    """Sample the timing of a whole expression, with pauses and a lengthened last word as in the recordings.

    Args:
        words: N.
        rng: Random generator.

    Returns:
        N onsets and ends; the sound ends with the last word.
    """
    onsets, ends = [], []
    moment = float(rng.uniform(*_FIRST_ONSETS))
    for number, word in enumerate(words):
        last = number == len(words) - 1
        mean = _IN_EXPRESSION.mean(word) + _LENGTHENING * last
        onsets.append(moment)
        moment += max(MIN_DURATION, float(rng.normal(mean, _IN_EXPRESSION.residual)))
        ends.append(moment)
        if not last and rng.random() < _PAUSE_SHARE:
            moment += float(rng.uniform(*_PAUSE))
    return SpeechTiming(onsets=tuple(onsets), ends=tuple(ends), duration=moment)
