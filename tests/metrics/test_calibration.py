import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.calibration import ece

UNIT = st.floats(0, 1)


def test_by_hand() -> None:
    """Bin 0.9..1: two at 0.95, one true: gap 0.45. Bin 0.1..0.2: two at 0.15, none true: gap 0.15. Mean 0.3."""
    assert ece([0.95, 0.95, 0.15, 0.15], [1, 0, 0, 0]) == pytest.approx(0.3)


def test_calibrated_and_opposite() -> None:
    assert ece([0, 0, 1, 1], [0, 0, 1, 1]) == 0.0
    assert ece([1, 1, 0], [0, 0, 1]) == 1.0
    assert ece([0.5] * 4, [0, 1, 0, 1]) == 0.0


def test_outcomes_may_be_numbers() -> None:
    assert ece([0.7, 0.7], [0.6, 0.4]) == pytest.approx(0.2)


def test_a_calibrated_forecaster_has_a_small_error() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.random(20000)
    assert ece(confidences, rng.random(20000) < confidences) < 0.02


@pytest.mark.parametrize(
    ("confidences", "outcomes", "message"),
    [([], [], "needs pairs"), ([0.5], [1, 0], "1 confidences and 2"), ([1.5], [1], "0..1"), ([0.5], [np.nan], "0..1")],
)
def test_bad_input(confidences: list, outcomes: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ece(confidences, outcomes)


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1))
def test_bounded_by_the_mean_gap(pairs: list[tuple[float, float]]) -> None:
    confidences, outcomes = np.array(pairs).T
    assert ece(outcomes, outcomes) == 0.0
    assert -1e-9 <= ece(confidences, outcomes) <= np.abs(confidences - outcomes).mean() + 1e-9
