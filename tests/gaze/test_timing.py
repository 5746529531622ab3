import pytest
from gaze.support.recorded_gaze import REFCOCO_GAZE, read_json
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.timing import AFTER, BEFORE_OR_PAUSE, SpeechTiming, pack_indices, pack_indices_from_words, spoken_word

TIMING = SpeechTiming(onsets=(50, 300, 500), ends=(300, 450, 800), duration=900)


@pytest.mark.parametrize(
    ("start", "word", "pack"),
    [
        (-100, None, 0),
        (49, None, 0),
        (50, 0, 1),
        (300, 1, 2),  # where two words touch it is the later one
        (450, 1, 2),  # an end belongs to its word when no other begins there
        (451, None, 2),  # a pause counts for the word before
        (500, 2, 3),
        (800, 2, 3),
        (850, None, 3),
        (900, 3, 4),
        (5000, 3, 4),
    ],
)
def test_by_hand(start: float, word: int | None, pack: int) -> None:
    assert spoken_word(start, TIMING) == word
    assert pack_indices([start], TIMING) == [pack]


def test_a_sound_that_ends_with_its_last_word() -> None:
    timing = SpeechTiming(onsets=(0,), ends=(400,), duration=400)
    assert pack_indices([399, 400, 401], timing) == [1, 1, 2]


def test_latency_charges_a_fixation_to_an_earlier_word() -> None:
    assert pack_indices([100, 320, 1000], TIMING) == [1, 2, 4]
    assert pack_indices([100, 320, 1000], TIMING, latency=200) == [0, 1, 3]


def test_recorded_numbers_are_carried_over_pauses() -> None:
    recorded = [BEFORE_OR_PAUSE, 0, BEFORE_OR_PAUSE, 2, BEFORE_OR_PAUSE, AFTER, AFTER]
    assert pack_indices_from_words(recorded, 3) == [0, 1, 1, 3, 3, 4, 4]
    assert pack_indices_from_words([], 3) == []


@given(st.lists(st.floats(0, 3000), min_size=3, max_size=15), st.lists(st.floats(-500, 4000)))
def test_packs_never_fall(moments: list[float], starts: list[float]) -> None:
    moments = sorted(moments)
    num_words = (len(moments) - 1) // 2
    timing = SpeechTiming(
        onsets=tuple(moments[: 2 * num_words : 2]), ends=tuple(moments[1 : 2 * num_words : 2]), duration=moments[-1]
    )
    packs = pack_indices(sorted(starts), timing)
    assert packs == sorted(packs)
    assert all(0 <= pack <= num_words + 1 for pack in packs)


@pytest.mark.parametrize(
    ("onsets", "ends", "duration", "message"),
    [
        ((0,), (), 10, "1 onsets and 0 ends"),
        ((5,), (3,), 10, "3 ms follows 5 ms"),
        ((0, 2), (4, 6), 10, "2 ms follows 4 ms"),
        ((0,), (5,), 4, "4 ms follows 5 ms"),
        ((float("nan"),), (5,), 9, "5 ms follows nan ms"),
    ],
)
def test_bad_timing(onsets: tuple, ends: tuple, duration: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechTiming(onsets=onsets, ends=ends, duration=duration)


@pytest.mark.parametrize("index", [3, -1, 98])
def test_bad_word_numbers(index: int) -> None:
    with pytest.raises(ValueError, match=f"word index {index}: expected 0..2, -99 or 99"):
        pack_indices_from_words([index], 3)


@pytest.mark.parity
def test_every_recorded_word_number_follows_the_rule() -> None:
    spoken = {record["ref_id"]: record for record in read_json(REFCOCO_GAZE / "word-timing.json")}
    num_compared = 0
    for trial in read_json(REFCOCO_GAZE / "refcocogaze_val_part.json"):
        words = spoken[trial["REF_ID"]]
        timing = SpeechTiming(
            onsets=tuple(words["word_onset"]), ends=tuple(words["word_end"]), duration=words["sentence_duration"]
        )
        names = {None: BEFORE_OR_PAUSE, len(timing.onsets): AFTER}
        for start, recorded in zip(trial["FIX_START"], trial["FIX_WORDINDEX"], strict=True):
            word = spoken_word(start - trial["SOUND_ON"], timing)
            assert names.get(word, word) == recorded
            num_compared += 1
    assert num_compared > 4000
