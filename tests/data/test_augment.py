"""Check that an augmented sample's masks follow its pixels, and that its words stay true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.data.augment import AugmentConfig, Augmented, augment, change_color, swap_sides
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset
from sa2va.types import Sample, Span, Turn


def turn_about(text: str, *objects: int) -> Turn:
    return Turn(question=f"Segment {text}.", answer="It is .", spans=(Span(start=6, end=6, objects=objects),))


def draw_rectangles(text: str = "the red one", height: int = 40, width: int = 60) -> Sample:
    """A picture in which red is 250 on object 0 and 200 on object 1; object 1 lies in a corner."""
    masks = np.zeros((2, 1, height, width), bool)
    masks[0, 0, 8:30, 5:35] = True
    masks[1, 0, 32:38, 50:58] = True
    frame = np.full((height, width, 3), 20, np.uint8)
    frame[masks[0, 0], 0], frame[masks[1, 0], 0] = 250, 200
    return Sample.of_arrays(frame[None], [turn_about(text, 0), turn_about("the dark one", 1)], masks)


def check_masks(seen: Sample) -> None:
    """Each mask covers exactly the pixels of its color."""
    for turn in seen.turns:
        (row,) = turn.spans[0].objects
        value = (250, 200)[row]
        assert (seen.masks[row, 0] == (seen.frames[0, ..., 0] == value)).all()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), flip=st.sampled_from([0.0, 0.5, 1.0]), crop=st.floats(0.05, 1))
def test_masks_follow_the_pixels(seed: int, flip: float, crop: float) -> None:
    sample = draw_rectangles()
    seen = augment(sample, AugmentConfig(flip=flip, crop=crop), np.random.default_rng(seed))
    check_masks(seen)
    assert 1 <= len(seen.turns) <= 2
    assert seen.frames.shape[1:3] == (seen.media[0].height, seen.media[0].width)
    for turn in seen.turns:
        (row,) = turn.spans[0].objects
        assert seen.masks[row].sum() >= 0.3 * sample.masks[row].sum()
    assert seen.frames.shape[1] * seen.frames.shape[2] >= 0.8 * crop * 40 * 60 or crop < 0.2


@pytest.mark.parametrize("text", ["the left one", "the topmost one", "the second cat from the right", "the two cats"])
def test_a_sample_with_words_of_place_or_number_is_not_cropped(text: str) -> None:
    sample = draw_rectangles(text)
    for seed in range(10):
        seen = augment(sample, AugmentConfig(crop=0.1), np.random.default_rng(seed))
        assert seen.frames.shape == sample.frames.shape


def test_an_answer_without_a_mask_is_not_cropped() -> None:
    sample = draw_rectangles()
    described = Sample.of_arrays(sample.frames, [Turn(question="What is it?", answer="Two things.")], sample.masks)
    assert augment(described, AugmentConfig(crop=0.1), np.random.default_rng(0)).frames.shape == sample.frames.shape


def test_mirroring_swaps_sides_in_the_words() -> None:
    turn = Turn(
        question="Left or right: where is the leftmost cat?",
        answer="The RIGHT cat, left of it .",
        spans=(Span(start=10, end=13, objects=(0,)), Span(start=26, end=26, objects=(0,))),
    )
    swapped = swap_sides(turn)
    assert swapped.question == "Right or left: where is the rightmost cat?"
    assert swapped.answer == "The LEFT cat, right of it ."
    for span, old in zip(swapped.spans, turn.spans, strict=True):
        assert swapped.answer[span.start : span.end] == turn.answer[old.start : old.end]
    assert swapped.answer[swapped.spans[1].end :] == "."
    assert swap_sides(swapped) == turn


def test_nothing_is_changed_without_augmentation() -> None:
    sample = draw_rectangles()
    assert augment(sample, AugmentConfig(), np.random.default_rng(0)) is sample


def test_a_clip_is_mirrored_as_a_whole() -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    masks = frames[None, ..., 0] > 60
    clip = Sample.of_arrays(frames, [turn_about("the thing", 0)], masks)
    seen = augment(clip, AugmentConfig(flip=1.0, crop=0.2), np.random.default_rng(0))
    assert (seen.frames == frames[:, :, ::-1]).all()
    assert (seen.masks == masks[..., ::-1]).all()
    assert (seen.media[0].frames([1]) == frames[1:, :, ::-1]).all()


def test_color_keeps_the_size_and_one_changes_nothing() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    assert (change_color(frame, 1.0, 1.0, 1.0, 0.0) == frame).all()
    gray = change_color(frame, 1.0, 1.0, 0.0, 0.0)
    assert (gray == gray[..., :1]).all()
    brighter = change_color(frame, 1.5, 1.0, 1.0, 0.0).astype(int)
    assert (brighter >= frame).all()
    assert change_color(frame, 0.8, 1.2, 1.1, 0.3).dtype == np.uint8


@pytest.mark.parametrize("values", [{"flip": 1.5}, {"crop": 0.0}, {"color": 1.0}])
def test_a_wrong_strength_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="^augment: "):
        AugmentConfig(**values)


class Counted(StoredDataset[str]):
    """Dataset whose draws differ by epoch."""

    def build_sample(self, record: str, draw: Draw) -> Sample:
        return draw_rectangles(f"the thing {record}{draw.pick('xyz')}")

    def describe(self, record: str) -> str:
        return f"record {record}"

    def extent(self, index: int) -> Extent:
        return Extent(1, index)


def test_each_epoch_has_a_view_of_its_own() -> None:
    stored = Counted("counted", "abc", DrawConfig(seed=4), {"a rule": 2})
    data = Augmented(stored, AugmentConfig(flip=0.5, crop=0.3, color=0.3))
    assert len(data) == 3 and data.left_out == {"a rule": 2}
    assert (data.describe("b"), data.extent(2)) == ("record b", Extent(1, 2))
    first, again, later = data.draw(1, 0), data[1], data.draw(1, 1)
    assert (first.frames == again.frames).all()
    assert first.frames.shape != later.frames.shape or (first.frames != later.frames).any()
    for epoch in range(20):  # the view changes neither words nor masks
        seen, plain = data.draw(2, epoch), stored.draw(2, epoch)
        assert set(seen.turns) <= set(plain.turns)
