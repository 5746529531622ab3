import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.distance import closest_dtw, dtw, local_bipartite_matching, time_delay_embedding

POINTS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=6)
BOX = st.tuples(*[st.integers(0, 8).map(lambda eighths: eighths / 8)] * 4)
TRACE = st.lists(BOX, min_size=1, max_size=5)


def test_dtw_by_hand() -> None:
    assert dtw([[0, 0], [3, 4]], [[0, 0], [0, 0], [3, 4]]) == 0
    assert dtw([[0, 0]], [[3, 4], [6, 8]]) == 15
    assert dtw([[0, 0], [10, 0]], [[0, 1], [10, 1]]) == 2


def test_dtw_is_the_best_of_all_alignments() -> None:
    one, other = np.array([[0, 0], [5, 5], [9, 1]], float), np.array([[1, 0], [9, 9]], float)
    distances = np.linalg.norm(one[:, None] - other[None], axis=-1)

    def cheapest(row: int, column: int) -> float:
        if row < 0 or column < 0:
            return math.inf
        before = min(cheapest(row - 1, column), cheapest(row, column - 1), cheapest(row - 1, column - 1))
        return distances[row, column] + (0 if (row, column) == (0, 0) else before)

    assert dtw(one, other) == pytest.approx(cheapest(2, 1))


@given(POINTS, POINTS)
def test_dtw_properties(one: list, other: list) -> None:
    assert dtw(one, one) == 0
    assert dtw(one, other) == pytest.approx(dtw(other, one))
    assert dtw(np.array(one) + 5, np.array(other) + 5) == pytest.approx(dtw(one, other))
    assert dtw(2 * np.array(one), 2 * np.array(other)) == pytest.approx(2 * dtw(one, other))


def test_the_closest_person_in_hundredths() -> None:
    assert closest_dtw([[256, 160]], [[[0, 0]], [[256, 192]], []], 512, 320) == pytest.approx(10)
    assert math.isnan(closest_dtw([], [[[0, 0]]], 512, 320))
    assert math.isnan(closest_dtw([[0, 0]], [[]], 512, 320))


def test_time_delay_embedding_by_hand() -> None:
    """Pieces of two: (0,0)(0,0) and (0,0)(10,0); the first lies 10 from the only human one, the second 0."""
    assert time_delay_embedding([[0, 0], [0, 0], [10, 0]], [[0, 0], [10, 0]], 2) == pytest.approx((10 + 0) / 2 / 2)
    assert math.isnan(time_delay_embedding([[0, 0]], [[0, 0], [1, 1]], 2))
    with pytest.raises(ValueError, match="windows of 0 fixations"):
        time_delay_embedding([[0, 0]], [[0, 0]], 0)


@given(POINTS, st.integers(1, 3))
def test_time_delay_embedding_of_a_part_is_0(points: list, k: int) -> None:
    if len(points) >= k:
        assert time_delay_embedding(points, [[50, 50], *points], k) == pytest.approx(0)


def test_matching_by_hand() -> None:
    """Two boxes swapped in time: within a window of one box they find each other, without a window they do not."""
    one, other = [[0, 0, 0.1, 0.1], [1, 1, 1, 1]], [[1, 1, 1, 1], [0, 0, 0.1, 0.1]]
    assert local_bipartite_matching(one, other, window=1) == pytest.approx(0)
    assert local_bipartite_matching(one, other, window=0) == pytest.approx(0.95)


def test_a_longer_trace_lends_its_best_boxes() -> None:
    short, long = [[0, 0, 0, 0], [1, 1, 1, 1]], [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert local_bipartite_matching(short, long, window=0) == pytest.approx(0)


def test_traces_are_matched_in_segments() -> None:
    """30 boxes: the first 20 and the last 10 weigh the same, as published."""
    one, other = np.zeros((30, 4)), np.concatenate([np.zeros((20, 4)), np.ones((10, 4))])
    assert local_bipartite_matching(one, other) == pytest.approx(0.5)


@given(TRACE, TRACE)
def test_matching_is_the_best_assignment(one: list, other: list) -> None:
    short, long = sorted((np.array(one), np.array(other)), key=len)
    costs = np.abs(short[:, None] - long[None]).mean(-1)
    window = max(len(one), len(other))  # so wide that every pair is allowed
    best = min(
        np.mean([costs[row, column] for row, column in enumerate(columns)])
        for columns in itertools.permutations(range(len(long)), len(short))
    )
    assert local_bipartite_matching(one, other, window) == pytest.approx(best)
    assert local_bipartite_matching(one, one) == 0
    assert 0 <= local_bipartite_matching(one, other, 0) <= 1
    assert local_bipartite_matching(one, other, 0) >= best - 1e-12


def test_bad_traces() -> None:
    assert math.isnan(local_bipartite_matching([], [[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="expected \\(T, 4\\) boxes in 0..1"):
        local_bipartite_matching([[0, 0, 2, 1]], [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="window of -1 boxes"):
        local_bipartite_matching([[0, 0, 1, 1]], [[0, 0, 1, 1]], window=-1)
