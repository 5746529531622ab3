"""A recorded scanpath as tokens: what is asked where, and what is known by then."""

import pytest
import torch
from gaze.support.gaze_model import clock, draw_path

from sa2va.gaze.model.events import FACT, NO_LABEL, EventHistory, Next, Word, collate, pack_words, write_tokens
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.timing import SpeechTiming, pack_indices

WORDS = ("red", "car")
TIMING = clock([300.0, 400.0])  # 50..350..750


def make_path(*fixations: tuple[float, float]) -> Scanpath:
    """Fixations of (start, duration), each 10 px further right."""
    made = [Fixation(100.0 + 10 * n, 50.0, *times) for n, times in enumerate(fixations)]
    return Scanpath.from_timing(made, WORDS, TIMING, width=512, height=320)


def test_a_token_per_pack_and_per_fixation() -> None:
    path = make_path((-160, 150), (40, 200), (280, 300), (800, 100))
    tokens = write_tokens(path, TIMING)
    assert path.sizes == [2, 1, 0, 1]
    assert [token["packs"] for token in tokens] == [0, 0, 0, 1, 1, 2, 3, 3]
    assert [token["looks"] for token in tokens] == [True, True, False, True, False, False, True, False]
    assert [token["is_last"] for token in tokens] == [False] * 6 + [True, False]
    look, ready, done = Next.FIXATION, Next.PACK, Next.STOP
    assert [token["label"] for token in tokens] == [look, look, ready, look, ready, ready, look, done]


def test_a_step_is_decided_in_the_pack_in_which_the_last_fixation_ends() -> None:
    tokens = write_tokens(make_path((-160, 150), (40, 200), (280, 300), (800, 100)), TIMING)
    # 40 + 200 ends in the first word, 280 + 300 in the second, from where the next one is awaited.
    assert [token["decides"] for token in tokens] == [False, True, False, True, False, True, False, True]
    assert [token["gap"] for token in tokens if token["decides"]] == [50.0, 40.0, 220.0, 1.0]
    assert [token["stops"] for token in tokens] == [False] * 7 + [True]


def test_nothing_is_asked_once_a_person_has_stopped() -> None:
    tokens = write_tokens(make_path((-160, 150), (40, 200)), TIMING)
    assert [token["label"] for token in tokens][3:] == [Next.STOP, NO_LABEL, NO_LABEL]
    assert [token["stops"] for token in tokens] == [False, False, False, True, False, False]


def test_facts_hold_the_past_alone() -> None:
    """Tokens of a pack are the same whatever comes later: words, their clock, fixations."""
    path = draw_path(("a", "b", "c", "d"), clock([300, 300, 300, 300]), until=100)
    other = draw_path(("a", "b", "x", "yellow", "bus"), clock([300, 300, 150, 700, 400]), until=900)
    ours = write_tokens(path, clock([300, 300, 300, 300]))
    theirs = write_tokens(other, clock([300, 300, 150, 700, 400]))
    early = [token["facts"] for token in ours if token["packs"] <= 2]
    assert early == [token["facts"] for token in theirs if token["packs"] <= 2]
    assert len(early) > 5


def test_a_hidden_clock_leaves_no_time_in_the_facts() -> None:
    row = write_tokens(make_path((-160, 150), (40, 200)), TIMING, clocked=False)[3]["facts"]
    assert all(row[FACT[name]] == 0 for name in ("clocked", "start", "end", "onset", "until", "length", "surprise"))
    assert row[FACT["x"]] == 110


@pytest.mark.parametrize("first", [0.0, 80.0, 250.0])
def test_packs_lie_where_the_timing_has_them(first: float) -> None:
    """The first pack ends with the first onset, the last one begins with the end of the sound."""
    timing = SpeechTiming(onsets=(first, 400.0), ends=(300.0, 700.0), duration=730.0)
    before, *spoken, after = pack_words(WORDS, timing)
    assert (before.onset, before.end) == (0.0, first)
    assert [(word.onset, word.end) for word in spoken] == [(first, 300.0), (400.0, 700.0)]
    assert (after.onset, after.end) == (730.0, None)
    edges = [spoken[0].onset, spoken[1].onset, after.onset]
    assert pack_indices([edge - 0.1 for edge in edges], timing) == [0, 1, 2]
    assert pack_indices(edges, timing) == [1, 2, 3]


def test_words_without_a_clock_are_timed_one_by_one() -> None:
    long, short = pack_words(("red", "car", "parked"), None), pack_words(("red",), None)
    assert long[:2] == short[:2]
    assert [word.end is None for word in long] == [False] * 4 + [True]


def test_padding_asks_nothing() -> None:
    rows = [write_tokens(make_path((-160, 150), (40, 200)), TIMING), write_tokens(make_path((-160, 150)), TIMING)]
    batch = collate(rows, [torch.rand(4, 5, 8), torch.rand(3, 5, 8)])
    assert batch.valid.sum(1).tolist() == [6, 5]
    assert batch.beliefs.shape == (2, 4, 5, 8)
    assert not batch.looks[1, 5:].any() and (batch.label[1, 5:] == NO_LABEL).all()


def test_a_clock_that_is_late_is_due_only_then() -> None:
    history = EventHistory()
    history.begin_pack(Word(None, 0.0, 50.0))
    history.add(Fixation(1, 1, -100, 160))
    assert not history.is_due
    history.begin_pack(Word("red", 50.0, 200.0))
    assert history.is_due


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (Scanpath.from_packs([], [], WORDS, width=512, height=320), "no fixations, expected at least one"),
        (Scanpath.from_packs([Fixation(1, 1, 0, 9)], [0], WORDS, width=640, height=480), "over 640 x 480 px"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(path: Scanpath, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_tokens(path, TIMING)
