import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.strings import (
    as_points,
    edit_distance,
    label_symbols,
    nearest_symbols,
    repeated_by_time,
    string_similarity,
)

STRING = st.lists(st.integers(0, 3), max_size=8)


@pytest.mark.parametrize(
    ("one", "other", "similarity", "distance"),
    [
        ([], [], 1.0, 0),
        ([1], [], 0.0, 1),
        ([1, 2, 3], [1, 2, 3], 1.0, 0),
        ([1, 2, 3, 4], [1, 3], 0.5, 2),
        ([1, 2, 3], [3, 2, 1], 1 / 3, 2),
        ([1, 1, 1], [2, 2], 0.0, 3),
    ],
)
def test_by_hand(one: list[int], other: list[int], similarity: float, distance: int) -> None:
    assert string_similarity(one, other) == pytest.approx(similarity)
    assert edit_distance(one, other) == distance


def test_costs_of_gaps_and_substitutions() -> None:
    assert string_similarity([1, 2], [1], gap=-0.5) == pytest.approx((1 - 0.5) / 2)
    assert edit_distance([1], [2], substitution=2) == 2


@given(STRING, STRING)
def test_bounds_symmetry_and_identity(one: list[int], other: list[int]) -> None:
    assert string_similarity(one, one) == 1.0 and edit_distance(one, one) == 0
    assert string_similarity(one, other) == string_similarity(other, one)
    assert edit_distance(one, other) == edit_distance(other, one)
    assert 0 <= string_similarity(one, other) <= 1
    assert abs(len(one) - len(other)) <= edit_distance(one, other) <= max(len(one), len(other))


@given(STRING, STRING, STRING)
def test_edit_distance_is_a_metric(one: list[int], other: list[int], third: list[int]) -> None:
    assert edit_distance(one, third) <= edit_distance(one, other) + edit_distance(other, third)
    assert (edit_distance(one, other) == 0) == (one == other)


@given(STRING, STRING)
def test_new_names_for_symbols_change_nothing(one: list[int], other: list[int]) -> None:
    renamed = [[7 - 2 * symbol for symbol in string] for string in (one, other)]
    assert string_similarity(*renamed) == string_similarity(one, other)
    assert edit_distance(*renamed) == edit_distance(one, other)


def test_nearest_center() -> None:
    centers = [[0, 0], [10, 0], [10, 0]]
    assert nearest_symbols([[1, 1], [9, -1], [5, 0]], centers) == [0, 1, 0]  # ties go to the first
    assert nearest_symbols([], centers) == []


def test_labels_under_fixations() -> None:
    labels = np.array([[1, 2], [3, 4]])
    assert label_symbols([[0.9, 0.2], [1.0, 1.99], [-5, 9], [7, 0]], labels) == [1, 4, 3, 2]
    assert label_symbols([], labels) == []


def test_time_bins() -> None:
    assert repeated_by_time([5, 6, 7], [120, 49.9, 50]) == [5, 5, 7]
    assert repeated_by_time([], []) == []


def test_empty_fixations_keep_their_shape() -> None:
    assert as_points([]).shape == (0, 2)


@pytest.mark.parametrize("points", [[1, 2], [[1, 2, 3]], [[float("nan"), 0]], [[0, float("inf")]]])
def test_bad_fixations(points: list) -> None:
    with pytest.raises(ValueError, match="expected \\(K, 2\\) finite numbers"):
        as_points(points)


def test_bad_symbols() -> None:
    with pytest.raises(ValueError, match="no cluster centers"):
        nearest_symbols([[0, 0]], [])
    with pytest.raises(ValueError, match="1 symbols and 2 durations"):
        repeated_by_time([1], [50, 50])
    with pytest.raises(ValueError, match="time bins of 0 ms"):
        repeated_by_time([1], [50], bin_ms=0)
