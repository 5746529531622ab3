"""Check what people of the drawn world look at: one target, words with a clock, always the same."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("sa2va.world")
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.simulator.cases import KINDS, MAX_WORDS, MIN_OBJECTS, TARGET_SIZES, Case, make_case
from sa2va.world.language.expressions import denotes
from sa2va.world.tasks.items import SIDE


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [make_case(2, "val", index) for index in range(50)]


def test_a_case_stays_the_same() -> None:
    first = make_case(2, "val", 3)
    make_case.cache_clear()
    again = make_case(2, "val", 3)
    assert again is not first and (again.expression, again.timing) == (first.expression, first.timing)
    assert again.scene == first.scene and np.array_equal(again.saliency, first.saliency)
    assert make_case(2, "val", 4).scene != first.scene and make_case(2, "train", 3).scene != first.scene


def test_the_words_lead_to_the_target(cases: list[Case]) -> None:
    for case in cases:
        words, stimulus = case.expression.words, case.stimulus
        assert len(case.scene.objects) >= MIN_OBJECTS and len(words) <= MAX_WORDS
        assert len(words) == len(case.timing.onsets) == len(stimulus.possible) - 1
        assert stimulus.possible[0].all() and np.flatnonzero(stimulus.possible[-1]).tolist() == [case.target]
        assert not (stimulus.possible[1:] & ~stimulus.possible[:-1]).any()  # nothing comes back
        assert set(np.flatnonzero(stimulus.possible[1])) == denotes(case.scene, words[:1])
        onset, end = case.noun
        assert onset in case.timing.onsets and end in case.timing.ends
        assert stimulus.saliency.sum() == pytest.approx(1)


def test_boxes_are_tight_and_shown_in_the_middle_of_the_canvas(cases: list[Case]) -> None:
    for case in cases[:10]:
        for mask, box, shown in zip(case.masks, case.boxes, case.stimulus.boxes, strict=True):
            x0, y0, x1, y1 = (int(edge) for edge in box)
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
            assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()
            scale = CANVAS[1] / SIDE
            offset = (CANVAS[0] - CANVAS[1]) / 2
            assert shown == pytest.approx((x0 * scale + offset, y0 * scale, x1 * scale + offset, y1 * scale))
        assert case.stimulus.bounds == (96, 0, 416, 320)
        assert case.frame.shape == (SIDE, SIDE, 3)


def test_targets_are_large_and_asked_for_in_many_ways(cases: list[Case]) -> None:
    sizes = Counter(case.scene.objects[case.target].size for case in cases)
    assert sizes["large"] / len(cases) == pytest.approx(TARGET_SIZES["large"], abs=0.2)
    assert set(KINDS) == {case.expression.kind for case in cases}


def test_training_shows_no_held_out_pair() -> None:
    assert not any(make_case(0, "train", index).heldout for index in range(8))
    assert any(make_case(0, "val", index).heldout for index in range(30))


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        make_case(-1, "val", 0)
