"""Check the choice of key frames."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.inference import keyframes
from sa2va.inference.keyframes import choose_keyframes, content_indices, count_colors, keyframe_indices
from sa2va.media.source import open_media


def shots(*lengths: int) -> np.ndarray:
    """A clip of shots, each of one color."""
    colors = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20)]
    frames = [np.full((8, 8, 3), colors[k], np.uint8) for k, length in enumerate(lengths) for _ in range(length)]
    return np.stack(frames)


@pytest.mark.parametrize(
    ("choice", "expected"), [("uniform", [0, 5, 10]), ("first", [0, 1, 2]), ("content", [0, 4, 9])]
)
def test_choices(choice: str, expected: list[int]) -> None:
    clip = shots(4, 5, 2)
    indices, frames = choose_keyframes(open_media(clip), choice, 3)
    assert indices == expected and np.array_equal(frames, clip[expected])


@pytest.mark.parametrize("choice", ["uniform", "first", "content"])
def test_a_source_without_length_gives_its_first_frames_and_keeps_them(choice: str) -> None:
    clip = shots(4, 5, 2)
    media = open_media(iter(clip))
    indices, frames = choose_keyframes(media, choice, 3)
    assert indices == [0, 1, 2] and np.array_equal(frames, clip[:3])
    assert np.array_equal(np.stack(list(media)), clip)


def test_a_short_source_gives_what_it_has() -> None:
    for source in (shots(2), iter(shots(2))):
        indices, frames = choose_keyframes(open_media(source), "content", 5)
        assert indices == [0, 1] and len(frames) == 2


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="'middle' is unknown; use one of uniform, first, content"):
        choose_keyframes(open_media(shots(2)), "middle", 2)


def test_content_sees_where_colors_are() -> None:
    left, right = np.zeros((2, 8, 8, 3), np.uint8)
    left[:, :4] = right[:, 4:] = 200
    assert np.abs(count_colors(left) - count_colors(right)).sum() == pytest.approx(2)
    assert content_indices(np.stack([left] * 5 + [right] * 2 + [left] * 5), 12, 2) == [0, 5]


def test_a_still_clip_is_read_evenly() -> None:
    assert content_indices(shots(20), 20, 4) == [0, 2, 5, 8]


def test_a_long_clip_is_read_once_and_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyframes, "MAX_CANDIDATES", 11)
    clip, read = shots(30, 30, 30, 11), []

    def frames() -> Iterator[np.ndarray]:
        for index, frame in enumerate(clip):
            read.append(index)
            yield frame

    assert content_indices(frames(), 101, 4) == [0, 30, 60, 90]
    assert read == list(range(101))


@settings(max_examples=30, deadline=None)  # a busy machine is no failure
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 9))
def test_content_gives_as_many_as_asked(num_frames: int, number: int, seed: int) -> None:
    clip = np.random.default_rng(seed).integers(0, 256, (num_frames, 4, 4, 3), dtype=np.uint8)
    chosen = content_indices(clip, num_frames, number)
    assert len(chosen) == min(num_frames, number) and chosen[0] == 0
    assert chosen == sorted(set(chosen)) == content_indices(clip, num_frames, number)


@pytest.mark.parametrize("choice", ["uniform", "first", "content"])
def test_training_without_a_shift_takes_the_key_frames_of_prediction(choice: str) -> None:
    clip = shots(4, 5, 2)
    assert keyframe_indices(iter(clip), len(clip), choice, 3) == choose_keyframes(open_media(clip), choice, 3)[0]


def test_a_shift_moves_uniform_frames_alone() -> None:
    clip = shots(40)
    assert keyframe_indices(clip, 40, "uniform", 4, shift=0.5) == [6, 19, 32, 39]
    assert keyframe_indices(clip, 40, "first", 4, shift=0.5) == [0, 1, 2, 3]
