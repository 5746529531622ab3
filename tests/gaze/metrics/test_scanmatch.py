import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.scanmatch import grid_symbols, scanmatch, substitution_scores

CELLS = st.lists(st.integers(0, 143), max_size=8)


def test_cells_are_numbered_row_by_row() -> None:
    assert grid_symbols([[0, 0], [511, 0], [0, 319], [511, 319]], 512, 320) == [0, 11, 132, 143]
    assert grid_symbols([[600, -5]], 512, 320) == [11]  # beyond the canvas: its nearest cell
    assert grid_symbols([[9, 9], [11, 9]], 20, 20, grid=(2, 2)) == [0, 1]
    assert grid_symbols([], 512, 320) == []


def test_the_published_grid_rounds_to_pixels() -> None:
    just_right = 512 * 66.8 / 800  # a cell is 66 2/3 px of 800 wide
    assert grid_symbols([[just_right, 0]], 512, 320) == [1]
    assert grid_symbols([[just_right, 0]], 512, 320, published=True) == [0]


def test_rewards_fall_with_distance() -> None:
    scores = substitution_scores()
    assert scores[0, 0] == 3.5 and scores[0, 1] == 2.5 and scores[0, 12] == 2.5
    assert scores[0, 13] == pytest.approx(3.5 - np.sqrt(2))
    assert np.array_equal(scores, scores.T)


def test_by_hand() -> None:
    """Neighboring cells: 2.5 of 3.5; one of two fixations met: half."""
    assert scanmatch([0], [1]) == pytest.approx(2.5 / 3.5)
    assert scanmatch([0, 143], [0]) == pytest.approx(0.5)
    assert scanmatch([], []) == 1.0 and scanmatch([], [5]) == 0.0


def test_the_best_cell_is_not_the_whole_match() -> None:
    """With a cost of gaps the published score forgives a bad end."""
    assert scanmatch([0, 143, 143], [0], gap=-1.0) == pytest.approx((3.5 - 2) / 10.5)
    assert scanmatch([0, 143, 143], [0], gap=-1.0, published=True) == pytest.approx(3.5 / 10.5)


@given(CELLS, CELLS)
def test_properties(one: list[int], other: list[int]) -> None:
    assert scanmatch(one, one) == pytest.approx(1)
    assert scanmatch(one, other) == pytest.approx(scanmatch(other, one))
    assert 0 <= scanmatch(one, other) <= 1
    assert scanmatch(one, other, published=True) == scanmatch(one, other)  # gap 0: the last cell is the best one
