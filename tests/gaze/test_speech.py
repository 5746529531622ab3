"""Check that a word's predicted duration comes from the word alone, and fits how long words took to say."""

import numpy as np
import pytest
from gaze.support.recorded_gaze import REFCOCO_GAZE, read_json
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.speech import (
    FIRST_ONSET,
    MIN_DURATION,
    count_syllables,
    predict_duration,
    predict_timing,
    sample_timing,
)

WORDS = st.lists(
    st.sampled_from("the red circle on left hourglass checkered of that is not medium".split()), max_size=8
)


@pytest.mark.parametrize(
    ("word", "syllables"),
    [("the", 1), ("red", 1), ("circle", 2), ("square", 1), ("pentagon", 3), ("yellow", 2)]
    + [("hourglass", 2), ("purple", 2), ("White", 1), ("tree", 1), ("tv", 1), ("2", 1), ("bus's", 1), ("...", 1)],
)
def test_syllables(word: str, syllables: int) -> None:
    assert count_syllables(word) == syllables


def test_by_hand() -> None:
    red, the = 172.6 + 3 * 29.4 + 60.7, 172.6 + 3 * 29.4 + 60.7 - 113.5 - 102.1
    assert predict_duration("red") == pytest.approx(red)
    assert predict_duration("the") == predict_duration("The") == pytest.approx(the)
    assert predict_duration("of") == pytest.approx(172.6 + 2 * 29.4 + 60.7 - 113.5)
    timing = predict_timing(["the", "red"])
    assert timing.onsets == pytest.approx((FIRST_ONSET, FIRST_ONSET + the))
    assert timing.ends == pytest.approx((FIRST_ONSET + the, FIRST_ONSET + the + red))
    assert timing.duration == timing.ends[-1]


@given(WORDS, WORDS, st.integers(0, 2**32), st.booleans())
def test_what_is_said_of_a_word_does_not_depend_on_later_words(
    words: list[str], more: list[str], seed: int, drawn: bool
) -> None:
    whole, part = (
        predict_timing(said, np.random.default_rng(seed) if drawn else None) for said in (words + more, words)
    )
    assert whole.onsets[: len(words)] == part.onsets and whole.ends[: len(words)] == part.ends
    assert all(end - onset >= MIN_DURATION - 1e-9 for onset, end in zip(whole.onsets, whole.ends, strict=True))


def test_draws_lie_around_the_prediction() -> None:
    rng = np.random.default_rng(0)
    drawn = [predict_duration("circle", rng) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(predict_duration("circle"), abs=6)
    assert np.std(drawn) == pytest.approx(73.9, abs=5)


@pytest.mark.parametrize("word", ["", "  "])
def test_nothing_cannot_be_said(word: str) -> None:
    with pytest.raises(ValueError, match="expected a word, got no text"):
        predict_duration(word)


@given(WORDS.filter(bool), st.integers(0, 2**32))
def test_a_voice(words: list[str], seed: int) -> None:
    timing = sample_timing(words, np.random.default_rng(seed))
    assert timing == sample_timing(words, np.random.default_rng(seed))
    assert len(timing.onsets) == len(words) and 40 <= timing.onsets[0] <= 70
    pauses = [onset - end for onset, end in zip(timing.onsets[1:], timing.ends, strict=False)]
    assert all(pause == 0 or 30 <= pause <= 140 for pause in np.round(pauses, 6))
    assert timing.duration == timing.ends[-1]


def test_a_voice_dwells_on_the_last_word() -> None:
    rng = np.random.default_rng(0)
    said = [sample_timing(["red", "red"], rng) for _ in range(500)]
    first, last = (np.mean([timing.ends[k] - timing.onsets[k] for timing in said]) for k in (0, 1))
    assert last - first == pytest.approx(112, abs=10)


@pytest.mark.parity
def test_recorded_words() -> None:
    """Of the variance of 10,127 recorded durations the word alone explains 72 %."""
    records = read_json(REFCOCO_GAZE / "word-timing.json")
    pairs = [
        (predict_duration(word), end - onset)
        for record in records
        for word, onset, end in zip(record["word_list"], record["word_onset"], record["word_end"], strict=True)
    ]
    predicted, recorded = np.array(pairs).T
    assert len(pairs) == 10127
    assert 1 - np.mean((recorded - predicted) ** 2) / recorded.var() > 0.715
    assert abs(np.mean(recorded - predicted)) < 3
