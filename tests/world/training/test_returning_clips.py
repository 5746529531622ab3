"""Test that clips to track show absences and returns, and are no clips of a benchmark."""

import numpy as np
import pytest

from sa2va.world.scenes.long_clips import BEAT, FRAMES, list_absences, make_long_clip
from sa2va.world.scenes.splits import TRAIN, UNSEEN_PAIRS
from sa2va.world.training.returning_clips import choose_long, choose_short

NUM_FRAMES = 16


def test_most_short_clips_hide_an_object_and_show_it_again():
    chosen = [choose_short(0, index, NUM_FRAMES, range(NUM_FRAMES), 8) for index in range(12)]
    hidden = 0
    for one in chosen:
        seen = one.scene.render(64, NUM_FRAMES).masks.any((2, 3))  # (N, T)
        hidden += bool((~seen[:, :-1] & seen[:, 1:]).any())
        assert not {item.pair for item in one.scene.objects} & UNSEEN_PAIRS
    assert hidden >= 9
    assert chosen[3] == choose_short(0, 3, NUM_FRAMES, range(NUM_FRAMES), 8) != chosen[4]


@pytest.mark.parametrize("index", range(3))
def test_absences_are_those_that_are_seen(index):
    scene = make_long_clip(0, index, split=TRAIN)
    absences = list_absences(scene)
    assert absences
    frames = sorted({frame for one in absences for frame in (one.left, one.left + BEAT, one.back)})
    seen = dict(zip(frames, scene.render(64, FRAMES, frames).masks.any((2, 3)).T, strict=True))
    for one in absences:
        gone = [~seen[frame] for frame in (one.left + BEAT, one.back)]
        assert (seen[one.left] & gone[0] & gone[1]).any(), one
        assert one.since <= one.left < one.back


def test_windows_of_long_clips_follow_their_prompt():
    returns = 0
    for index in range(40):
        chosen = choose_long(5, index, 12, (1, 2, 3))
        prompted, *window = chosen.frames
        assert 0 <= prompted < window[0] < window[-1] < FRAMES
        assert len(set(np.diff(window))) == 1
        seen = chosen.scene.render(32, FRAMES, chosen.frames).masks.any((2, 3))
        returns += bool((seen[:, 0] & ~seen[:, 1] & seen[:, 2:].any(1)).any())
    assert returns >= 12
    assert chosen == choose_long(5, index, 12, (1, 2, 3))


def test_training_never_shows_a_clip_of_the_benchmark():
    assert make_long_clip(7, 0) == make_long_clip(7, 0, split="") != make_long_clip(7, 0, split=TRAIN)
