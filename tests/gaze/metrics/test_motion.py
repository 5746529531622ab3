import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.motion import (
    AMPLITUDE_EDGES,
    amplitudes,
    angles,
    circular_earth_mover,
    earth_mover,
    kl_divergence,
    waiting_share,
)

VALUES = st.lists(st.floats(0, 600), min_size=1, max_size=20)
DEGREES = st.lists(st.integers(-180, 180), min_size=1, max_size=10)


def test_saccades_by_hand() -> None:
    points = [[0, 0], [3, 4], [3, 4], [3, 14], [-7, 14], [-7, 4]]
    assert amplitudes(points).tolist() == [5, 0, 10, 10, 10]
    assert angles(points).tolist() == pytest.approx([math.degrees(math.atan2(4, 3)), 90, 180, -90])


@pytest.mark.parametrize("points", [[], [[5, 5]]])
def test_no_saccade(points: list) -> None:
    assert amplitudes(points).shape == angles(points).shape == (0,)
    assert math.isnan(waiting_share(amplitudes(points)))


def test_waiting() -> None:
    assert waiting_share([5, 19.9, 20, 100]) == 0.5


def test_earth_mover_by_hand() -> None:
    assert earth_mover([0, 0], [10, 10]) == 10
    assert earth_mover([0, 10], [10, 0]) == 0
    assert circular_earth_mover([175.5], [-175.5]) == pytest.approx(9)  # through 180, not through 0
    assert circular_earth_mover([0.5], [-179.5]) == pytest.approx(180)


def test_kl_by_hand() -> None:
    """People half and half, the model 3 to 1: ln(0.5 / 0.75) / 2 + ln(0.5 / 0.25) / 2."""
    expected = (math.log(0.5 / 0.75) + math.log(0.5 / 0.25)) / 2
    assert kl_divergence([0.5, 1.5], [0.5, 0.5, 0.5, 1.5], [0, 1, 2], smoothing=0) == pytest.approx(expected)
    assert kl_divergence([-9], [0.5], [0, 1, 2]) == 0  # beyond the ends: the first or last bin


@given(VALUES, VALUES)
def test_distances_of_distributions(one: list[float], other: list[float]) -> None:
    assert kl_divergence(one, one, AMPLITUDE_EDGES) == pytest.approx(0)
    assert kl_divergence(one, other, AMPLITUDE_EDGES) >= -1e-12
    assert earth_mover(one, one) == 0
    assert earth_mover(one, other) == pytest.approx(earth_mover(other, one))
    assert earth_mover(one, np.array(one) + 3) == pytest.approx(3)
    assert abs(np.mean(one) - np.mean(other)) <= earth_mover(one, other) + 1e-9


@given(DEGREES, DEGREES, st.integers(-360, 360))
def test_the_circle_has_no_beginning(one: list[int], other: list[int], turn: int) -> None:
    distance = circular_earth_mover(one, other)
    assert circular_earth_mover(one, one) == 0
    assert distance == pytest.approx(circular_earth_mover(other, one))
    assert distance == pytest.approx(circular_earth_mover(np.array(one) + turn, np.array(other) + turn))
    assert 0 <= distance <= 180 + 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: earth_mover([], [1]), "0 values"),
        (lambda: earth_mover([float("nan")], [1]), "all finite"),
        (lambda: kl_divergence([1], [1], [0]), "at least two"),
        (lambda: kl_divergence([1], [1], [0, 2, 1]), "in increasing order"),
        (lambda: circular_earth_mover([], []), "0 values"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_default_edges_rise() -> None:
    assert (np.diff(AMPLITUDE_EDGES) > 0).all()
    assert AMPLITUDE_EDGES[-1] > math.hypot(512, 320)
