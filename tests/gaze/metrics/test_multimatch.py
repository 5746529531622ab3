import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.multimatch import MultiMatch, align_saccades, compare

WIDTH, HEIGHT = 300, 400  # diagonal 500
POINTS = st.lists(st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT)), min_size=2, max_size=6)


def values(result: MultiMatch) -> list[float]:
    return [result.shape, result.direction, result.length, result.position, result.duration]


def test_one_saccade_by_hand() -> None:
    """100 px right against 100 px down, from places 50 px apart, 100 ms against 200 ms."""
    result = compare([[0, 0], [100, 0]], [[0, 50], [0, 150]], [100, 9], [200, 9], WIDTH, HEIGHT)
    assert result.shape == pytest.approx(1 - math.hypot(100, 100) / 1000)
    assert result.direction == pytest.approx(0.5)
    assert result.length == pytest.approx(1)
    assert result.position == pytest.approx(0.9)
    assert result.duration == pytest.approx(0.5)
    assert result.mean == pytest.approx(np.mean(values(result)[:4]))


def test_directions_meet_behind() -> None:
    """170 and -170 degrees lie 20 degrees apart."""
    turn = math.radians(170)
    one, other = ([[0, 0], [math.cos(turn), sign * math.sin(turn)]] for sign in (1, -1))
    assert compare(one, other, [1, 1], [1, 1], WIDTH, HEIGHT).direction == pytest.approx(1 - 20 / 180)


def test_a_saccade_cut_in_two_is_paired_twice() -> None:
    steps, partners = align_saccades([[0, 0], [100, 0], [100, 50]], [[0, 0], [50, 0], [100, 0], [100, 50]])
    assert (steps, partners) == ([0, 0, 1], [0, 1, 2])


@given(POINTS, st.data())
def test_identity(points: list, data: st.DataObject) -> None:
    times = data.draw(st.lists(st.floats(0, 900), min_size=len(points), max_size=len(points)))
    assert values(compare(points, points, times, times, WIDTH, HEIGHT)) == pytest.approx([1] * 5)


@given(POINTS, POINTS)
def test_bounds_and_shift(one: list, other: list) -> None:
    times = [np.arange(1, len(points) + 1) * 50 for points in (one, other)]
    result = compare(one, other, *times, WIDTH, HEIGHT)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in values(result))
    moved = compare(np.array(one) + 7, np.array(other) + 7, *times, WIDTH, HEIGHT)
    assert values(moved) == pytest.approx(values(result))


@given(POINTS, POINTS)
def test_an_alignment_goes_forward(one: list, other: list) -> None:
    steps, partners = align_saccades(one, other)
    assert (steps[0], partners[0]) == (0, 0)
    assert (steps[-1], partners[-1]) == (len(one) - 2, len(other) - 2)
    assert {(a, b) for a, b in zip(np.diff(steps), np.diff(partners), strict=True)} <= {(0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("points", [[], [[5, 5]]])
def test_without_a_saccade_it_is_undefined(points: list) -> None:
    times = [100] * len(points)
    result = compare(points, [[0, 0], [9, 9]], times, [1, 1], WIDTH, HEIGHT)
    assert all(math.isnan(value) for value in values(result))
    padded = compare(points, [[0, 0], [9, 9]], times, [1, 1], WIDTH, HEIGHT, published=True)
    assert not any(math.isnan(value) for value in values(padded))  # rows of ones stand in


@pytest.mark.parametrize("times", [[1], [1, -1], [1, float("nan")]])
def test_bad_durations(times: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one >= 0 ms per fixation"):
        compare([[0, 0], [1, 1]], [[0, 0], [1, 1]], times, [1, 1], WIDTH, HEIGHT)
