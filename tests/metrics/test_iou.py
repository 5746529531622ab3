import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from sa2va.masks import encode_rle
from sa2va.metrics.iou import ciou, giou, intersection_union, iou, overlap, pairwise_iou, pairwise_rle_iou

MASKS = arrays(bool, (3, 6, 7))


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((10, 12), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_two_boxes_by_hand() -> None:
    intersection, union = intersection_union(box(0, 0, 4, 4), box(2, 2, 6, 6))
    assert (int(intersection), int(union)) == (4, 28)
    assert iou(box(0, 0, 4, 4), box(2, 2, 6, 6)) == pytest.approx(4 / 28)


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        (box(0, 0, 0, 0), box(0, 0, 0, 0), 1.0),
        (box(0, 0, 2, 2), box(0, 0, 0, 0), 0.0),
        (box(0, 0, 0, 0), box(0, 0, 2, 2), 0.0),
        (box(0, 0, 12, 10), box(0, 0, 12, 10), 1.0),
    ],
)
def test_empty_and_full(pred: np.ndarray, target: np.ndarray, expected: float) -> None:
    assert iou(pred, target) == expected


def test_ciou_weighs_pixels_and_giou_weighs_pairs() -> None:
    intersections, unions = [90, 0], [100, 10]
    assert ciou(intersections, unions) == pytest.approx(90 / 110)
    assert giou(intersections, unions) == pytest.approx(0.45)
    assert giou([0], [0]) == 1.0


def test_ignored_pixels_count_nowhere() -> None:
    """Two 4x4 boxes share 2x2 px; ignoring columns 0..2 leaves one column of the first and three of the second."""
    counts = overlap(box(0, 0, 4, 4), box(2, 2, 6, 6), box(0, 0, 3, 10))
    assert counts == (2, 14, 4, 12)
    assert [int(count) for count in intersection_union(box(0, 0, 4, 4), box(2, 2, 6, 6), box(0, 0, 3, 10))] == [2, 14]
    assert overlap(box(0, 0, 4, 4), box(2, 2, 6, 6)) == (4, 28, 16, 16)


def test_sizes_must_agree() -> None:
    one, other = np.zeros((2, 2), bool), np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2, 3\)"):
        intersection_union(one, other)
    with pytest.raises(ValueError, match=r"ignored \(2, 3\), true \(2, 2\)"):
        overlap(one, one, other)
    with pytest.raises(ValueError, match=r"\(2, 2\), \(2, 3\)"):
        pairwise_rle_iou([encode_rle(one)], [encode_rle(other)])


@pytest.mark.parametrize(("num_pred", "num_target"), [(0, 0), (0, 2), (3, 0)])
def test_pairwise_without_masks(num_pred: int, num_target: int) -> None:
    shape = pairwise_iou(np.zeros((num_pred, 4, 4), bool), np.zeros((num_target, 4, 4), bool)).shape
    assert shape == (num_pred, num_target)


@given(MASKS, MASKS)
def test_iou_is_symmetric_and_bounded(one: np.ndarray, other: np.ndarray) -> None:
    assert iou(one, other) == iou(other, one)
    assert 0 <= iou(one, other) <= 1
    assert iou(one, one) == 1
    assert pairwise_iou(one, other).shape == (3, 3)
    expected = iou(one[1], other[2]) if one[1].any() or other[2].any() else 0.0  # empty masks match nothing
    assert pairwise_iou(one, other)[1, 2] == pytest.approx(expected)
