import math

import numpy as np
import pytest
from support.fake_answers import fake

from sa2va.evaluation import referring
from sa2va.inference.results import ObjectMasks, Prediction
from sa2va.masks import encode_rle
from sa2va.media.source import open_media


def strips(num_objects: int = 4, side: int = 8) -> np.ndarray:
    """Make objects (M, 1, side, side): columns of width 1, 2, 3, ... px."""
    masks = np.zeros((num_objects, 1, side, side + 8), bool)
    left = 0
    for index, mask in enumerate(masks):
        mask[..., left : left + index + 1] = True
        left += index + 1
    return masks


def test_choices_are_all_unions_of_that_many_objects() -> None:
    candidates = strips()
    assert len(referring.choices(candidates, 2)) == math.comb(4, 2)
    assert (referring.choices(candidates, 1) == candidates).all()
    assert sorted(referring.choices(candidates, 3).sum((1, 2, 3)) // 8) == [6, 7, 8, 9]


def test_chance_is_the_mean_over_the_objects_of_the_scene() -> None:
    candidates = strips()
    record = referring.overlap_record(fake("", candidates[:1]), candidates[1], candidates)
    assert (record["intersection"], record["union"]) == (0, 24)
    assert record["chance_iou"] == pytest.approx(1 / 4)  # objects do not overlap: right once, else nothing
    assert record["chance_intersection"] == pytest.approx(16 / 4)
    assert record["chance_union"] == pytest.approx((24 + 16 + 40 + 48) / 4)


def test_what_a_predictor_returns_can_be_scored() -> None:
    candidates = strips()
    rle = dict(encode_rle(candidates[1, 0]))
    found = ObjectMasks(id=1, phrase=None, presence=0.75, scores=np.array([0.5], np.float32), rles=(rle,))
    media = open_media(np.zeros((*candidates.shape[2:], 3), np.uint8))
    said = Prediction(text="It is .", media=media, objects=(found,))
    assert referring.overlap_record(said, candidates[1], candidates)["intersection"] == 16
    nothing = Prediction(text="There is no star.", media=media)
    assert referring.overlap_record(nothing, candidates[1], candidates)["intersection"] == 0
    probed = referring.probe_record(said, candidates[1], True)
    assert (probed["presence"], probed["scores"], probed["ious"]) == (0.75, [0.5], [1.0])


def test_chance_of_a_group_is_the_mean_over_groups_of_its_size() -> None:
    candidates = strips(3)
    record = referring.overlap_record(fake("", candidates[:2]), np.any(candidates[:2], axis=0), candidates, 2)
    assert record["intersection"] == record["union"] == 24
    assert record["chance_iou"] == pytest.approx((1 + 8 / 48 + 16 / 48) / 3)
    assert (record["num_objects"], record["num_targets"]) == (2, 2)


def test_a_guess_of_random_objects_reaches_chance() -> None:
    rng = np.random.default_rng(0)
    candidates = strips(5)[:, :, :, :15]
    records = []
    for _ in range(400):
        target, guess = rng.integers(0, 5, 2)
        records.append(referring.overlap_record(fake("", candidates[[guess]]), candidates[target], candidates))
    for figure in referring.overlap_figures(records, "strips"):
        assert figure.chance is not None and figure.low is not None and figure.high is not None
        assert figure.low <= figure.chance <= figure.high
        assert figure.high - figure.low < 0.12


def test_group_figures_by_hand() -> None:
    blind = {"chance_iou": 0.5, "chance_intersection": 1, "chance_union": 2}
    records = [
        {"intersection": 10, "union": 10, "num_objects": 2, "num_targets": 2, **blind},
        {"intersection": 0, "union": 30, "num_objects": 1, "num_targets": 3, **blind},
        {"intersection": 0, "union": 10, "num_objects": 0, "num_targets": 2, **blind},
    ]
    union, pooled, counts = referring.group_figures(records)
    assert union.value == pytest.approx(1 / 3)
    assert pooled.value == pytest.approx(10 / 50)
    assert counts.value == pytest.approx(1 / 3)
    assert counts.chance == pytest.approx(2 / 3)  # "two" every time


def test_absent_figures_by_hand() -> None:
    records = [
        {"present": True, "said": True, "unseen": True},
        {"present": True, "said": False, "unseen": False},
        {"present": False, "said": False, "unseen": False},
        {"present": False, "said": True, "unseen": True},
        {"present": False, "said": False, "unseen": True},
        {"present": False, "said": False, "unseen": False},
    ]
    there, not_there, unseen_there, unseen_not, both = referring.absent_figures(records)
    assert (there.value, there.chance, there.passed) == (0.5, 1.0, False)
    assert (not_there.value, not_there.chance, not_there.passed) == (0.75, 0.0, False)
    assert (unseen_there.value, unseen_there.num_items) == (1.0, 1)
    assert (unseen_not.value, unseen_not.num_items) == (0.5, 2)
    assert (both.value, both.chance) == (0.625, 0.5)
    (one_class,) = referring.absent_figures(records[:2])[4:]
    assert one_class.value == 0.5


def test_calibration_of_presence_and_of_scores() -> None:
    target = strips(2)[1]
    half = target.copy()
    half[..., 2] = False  # one of two columns
    seen = [
        referring.probe_record(fake("", target[None], presence=0.9, score=1.0), target, True),
        referring.probe_record(fake("", half[None], presence=0.9, score=0.8), target, True),
        referring.probe_record(fake("", half[None], presence=0.1, score=0.3), np.zeros_like(target), False),
    ]
    presence, scores = referring.calibration_figures(seen)
    assert presence.value == pytest.approx(0.1)
    assert scores.value == pytest.approx(0.3 / 2)  # absent objects have no IoU to expect
    assert (presence.num_items, scores.num_items) == (3, 2)
    assert presence.chance == pytest.approx(1 / 3)
    assert scores.chance == pytest.approx(0.25)
