import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.iou import RELEASED_EPSILON, ciou, giou, overlap
from sa2va.metrics.referring import (
    THRESHOLDS,
    cumulative_iou,
    mean_iou,
    no_target_accuracy,
    precision_at,
    target_accuracy,
    target_precision_at,
)

TABLE = [  # intersection, union, predicted, true
    (50, 100, 70, 80),  # IoU 0.5
    (9, 10, 10, 9),  # 0.9
    (0, 20, 0, 20),  # missed: no mask for a target
    (0, 0, 0, 0),  # no target, and none found
    (0, 30, 30, 0),  # no target, but a mask
]


def test_the_table_by_hand() -> None:
    assert cumulative_iou(TABLE) == pytest.approx(59 / 160)
    assert mean_iou(TABLE) == pytest.approx((0.5 + 0.9 + 0 + 1 + 0) / 5)
    assert [precision_at(x)(TABLE) for x in THRESHOLDS] == pytest.approx([0.6, 0.4, 0.4, 0.4, 0.4])
    assert [target_precision_at(x)(TABLE) for x in (0.5, 0.9)] == pytest.approx([2 / 3, 1 / 3])
    assert no_target_accuracy(TABLE) == 0.5
    assert target_accuracy(TABLE) == pytest.approx(2 / 3)


def test_the_epsilon_of_the_published_code() -> None:
    assert giou([1, 0], [2, 0], RELEASED_EPSILON) == pytest.approx((1 / (2 + 1e-5) + 1) / 2, abs=1e-15)
    shared, union, *_ = zip(*TABLE, strict=True)
    assert giou(shared, union, RELEASED_EPSILON) == pytest.approx(mean_iou(TABLE), rel=1e-6)  # unions of 10 px or more


def test_without_expressions_of_a_kind() -> None:
    assert math.isnan(no_target_accuracy(TABLE[:3]))
    assert math.isnan(target_accuracy(TABLE[3:]))
    assert math.isnan(target_precision_at(0.5)(TABLE[3:]))


def naive(rows: list[tuple[int, int, int, int]]) -> dict[str, float]:
    """Compute the same by counting, from the words of the papers."""
    total_shared = total_union = 0
    ious, found, right = [], [], []
    for shared, union, num_pred, num_target in rows:
        total_shared += shared
        total_union += union
        if num_target == 0:
            ious.append(1.0 if num_pred == 0 else 0.0)
            right.append(num_pred == 0)
        else:
            ious.append(shared / union)
            found.append(num_pred > 0)
    return {
        "ciou": total_shared / total_union if total_union else 1.0,
        "giou": sum(ious) / len(ious),
        "0.7": sum(iou >= 0.7 for iou in ious) / len(ious),
        "n": sum(right) / len(right) if right else math.nan,
        "t": sum(found) / len(found) if found else math.nan,
    }


def random_pairs(rng: np.random.Generator, number: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draw masks to compare, many of them empty, equal or with pixels to ignore."""
    pairs = []
    for _ in range(number):
        height, width = rng.integers(1, 9, 2)
        pred, target, ignore = rng.random((3, height, width)) < rng.choice([0.0, 0.3, 0.8, 1.0], (3, 1, 1))
        pairs.append((target.copy() if rng.random() < 0.2 else pred, target, ignore & (rng.random() < 0.5)))
    return pairs


def count(pred: np.ndarray, target: np.ndarray, ignore: np.ndarray) -> tuple[int, int, int, int]:
    """Count pixel by pixel."""
    counts = [0, 0, 0, 0]
    for one, other, void in zip(pred.flat, target.flat, ignore.flat, strict=True):
        if not void:
            for place, holds in enumerate((one and other, one or other, one, other)):
                counts[place] += bool(holds)
    return tuple(counts)


def test_agrees_with_counting_from_the_definitions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pairs = random_pairs(rng, int(rng.integers(1, 8)))
        rows = [overlap(*masks) for masks in pairs]
        counted = [count(*masks) for masks in pairs]
        assert rows == counted
        expected = naive(counted)
        found = [cumulative_iou(rows), mean_iou(rows), precision_at(0.7)(rows)]
        assert found == pytest.approx([expected["ciou"], expected["giou"], expected["0.7"]], abs=1e-12)
        assert no_target_accuracy(rows) == pytest.approx(expected["n"], nan_ok=True)
        assert target_accuracy(rows) == pytest.approx(expected["t"], nan_ok=True)
        columns = np.array(rows)
        assert ciou(columns[:, 0], columns[:, 1]) == cumulative_iou(rows)
        assert giou(columns[:, 0], columns[:, 1]) == pytest.approx(mean_iou(rows), abs=1e-12)


COUNTS = st.tuples(*[st.integers(0, 50)] * 3).map(lambda c: (c[0], sum(c), c[0] + c[1], c[0] + c[2]))


@given(st.lists(COUNTS, min_size=1, max_size=10))
def test_bounded_ordered_and_perfect_on_itself(rows: list[tuple[int, int, int, int]]) -> None:
    statistics = [cumulative_iou, mean_iou, *map(precision_at, THRESHOLDS)]
    assert all(0 <= statistic(rows) <= 1 for statistic in statistics)
    shares = [precision_at(x)(rows) for x in THRESHOLDS]
    assert shares == sorted(shares, reverse=True)
    same = [(target, target, target, target) for *_, target in rows]
    assert all(statistic(same) == 1 for statistic in statistics)
    assert cumulative_iou([row[:2] for row in rows]) == cumulative_iou(rows)
