import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.coco_judge import coco_ap50

from sa2va.metrics.ap import average_precision, detections, greedy_match, matched_iou
from sa2va.metrics.interval import bootstrap_interval
from sa2va.metrics.iou import pairwise_iou


def test_greedy_takes_the_best_pair_first() -> None:
    similarity = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert greedy_match(similarity) == [(0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (np.zeros((0, 0)), 1.0),
        (np.zeros((0, 2)), 0.0),
        (np.zeros((2, 0)), 0.0),
        (np.eye(3), 1.0),
        (np.array([[1.0, 0.0]]), 0.5),  # one of two missed
        (np.array([[1.0], [0.0]]), 0.5),  # one invented
        (np.array([[0.6, 0.0], [0.0, 0.0]]), 0.2),  # one missed and one invented: three objects
    ],
)
def test_unmatched_masks_count_zero(similarity: np.ndarray, expected: float) -> None:
    assert matched_iou(similarity) == pytest.approx(expected)


def test_a_second_mask_on_the_same_object_is_no_hit() -> None:
    found = detections(np.array([[0.8, 0.0], [0.9, 0.0], [0.0, 0.6]]), [0.5, 0.9, 0.7])
    assert found.scores == (0.9, 0.7, 0.5)
    assert found.hits == (True, True, False)
    assert found.num_targets == 2


def test_average_precision_by_hand() -> None:
    """Hits 1, 0, 1 of 2: precision 1 up to recall 0.5 (51 of 101 points), then 2/3 (50 points)."""
    found = detections(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), [0.9, 0.8, 0.7])
    assert average_precision([found]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_nothing_to_find() -> None:
    assert average_precision([detections(np.zeros((0, 0)), [])]) == 1.0
    assert average_precision([detections(np.zeros((1, 0)), [1.0])]) == 0.0
    assert average_precision([detections(np.zeros((0, 3)), [])]) == 0.0


def random_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[float]]:
    target = np.zeros((int(rng.integers(0, 5)), 16, 16), bool)
    for mask in target:
        x, y = rng.integers(0, 10, 2)
        mask[y : y + 5, x : x + 5] = True
    pred = np.zeros((int(rng.integers(0, 5)), 16, 16), bool)
    for mask in pred:
        x, y = rng.integers(0, 10, 2)
        mask[y : y + 5, x : x + 5] = True
    keep = min(len(target), len(pred), int(rng.integers(0, 4)))
    pred[:keep] = np.roll(target[:keep], 1, axis=-1)
    return pred, target, rng.choice([0.2, 0.4, 0.6, 0.8], len(pred)).tolist()


def random_pictures(rng: np.random.Generator, number: int) -> list[tuple[np.ndarray, np.ndarray, list[float]]]:
    """Draw pictures; some masks are empty, some twice there, some pictures without any."""
    pictures = [random_picture(rng) for _ in range(number)]
    for pred, target, _ in pictures:
        if len(pred) > 1 and rng.random() < 0.3:
            pred[0] = False
        if len(target) > 1 and rng.random() < 0.3:
            target[1] = target[0]
    return pictures


@pytest.mark.parametrize("ranked", [True, False])
def test_agrees_with_the_coco_evaluation(ranked: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        pictures = random_pictures(rng, 8)
        if not ranked:  # as grounded captions are scored
            pictures = [(pred, target, [1.0] * len(pred)) for pred, target, _ in pictures]
        ours = average_precision([detections(pairwise_iou(pred, target), scores) for pred, target, scores in pictures])
        assert ours == pytest.approx(coco_ap50(pictures), abs=1e-9)


def test_only_the_best_hundred_masks_count() -> None:
    similarity = np.zeros((103, 1))
    similarity[101] = 1.0
    assert not any(detections(similarity, [1.0] * 103).hits)
    assert detections(similarity, [0.5] * 101 + [0.9, 0.5]).hits == (True,) + (False,) * 99


def test_weights_repeat_pictures() -> None:
    """A picture drawn twice counts as two whose masks rank side by side."""
    found = [detections(np.array([[1.0], [0.0]]), [0.9, 0.8]), detections(np.array([[0.0], [1.0]]), [0.7, 0.6])]
    value_of = average_precision.prepare(found)
    assert value_of(np.array([1, 1])) == average_precision(found)
    assert value_of(np.array([2, 0])) == average_precision([found[0], found[0]]) == 1.0
    assert value_of(np.array([2, 1])) == average_precision([found[0], found[0], found[1]])
    assert value_of(np.array([0, 1])) == average_precision(found[1:])
    low, high = bootstrap_interval(found, average_precision)
    assert low == average_precision(found[1:]) and high == 1.0


@given(st.integers(0, 2**32 - 1))
def test_bounded_and_perfect_on_itself(seed: int) -> None:
    pred, target, scores = random_picture(np.random.default_rng(seed))
    similarity = pairwise_iou(pred, target)
    assert 0 <= matched_iou(similarity) <= 1
    assert 0 <= average_precision([detections(similarity, scores)]) <= 1
    itself = pairwise_iou(target, target)
    assert matched_iou(itself) == 1.0
    assert average_precision([detections(itself, [1.0] * len(target))]) == 1.0
