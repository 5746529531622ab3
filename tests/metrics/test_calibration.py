import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.calibration import NUM_BINS, calibration_bins, calibration_error, ece, risk_coverage
from sa2va.metrics.interval import bootstrap_interval

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


def test_bins_by_hand() -> None:
    bins = calibration_bins([0.95, 1.0, 0.15, 0.1], [1, 0.5, 0, 0.25])
    assert bins.counts.tolist() == [0, 2, *[0] * 7, 2]
    assert bins.confidences[[1, 9]] == pytest.approx([0.25, 1.95])
    assert bins.outcomes[[1, 9]] == pytest.approx([0.25, 1.5])
    assert len(bins.counts) == NUM_BINS


def test_risk_and_coverage_by_hand() -> None:
    """The two pairs at 0.5 are kept together: risks 0, 0.2, then (0 + 0.2 + 0.5 + 0.9) / 4."""
    coverage, risk = risk_coverage([0.5, 0.9, 0.5, 0.7], [0.5, 1.0, 0.1, 0.8])
    assert coverage == pytest.approx([0.25, 0.5, 1.0])
    assert risk == pytest.approx([0.0, 0.1, 0.4])


def test_confidence_without_knowledge_has_one_point() -> None:
    coverage, risk = risk_coverage([0.3] * 5, [0, 0, 1, 1, 1])
    assert (coverage.tolist(), risk.tolist()) == ([1.0], pytest.approx([0.4]))


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1))
def test_risk_at_full_coverage_is_the_mean_error_and_a_perfect_ranking_never_falls(
    pairs: list[tuple[float, float]],
) -> None:
    confidences, outcomes = np.array(pairs).T
    coverage, risk = risk_coverage(confidences, outcomes)
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx(np.mean(1 - outcomes))
    assert (np.diff(coverage) > 0).all()
    assert (np.diff(risk_coverage(outcomes, outcomes)[1]) >= -1e-9).all()


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


def test_the_interval_of_sums_is_that_of_picked_pairs() -> None:
    rng = np.random.default_rng(0)
    rows, groups = rng.random((80, 2)), rng.integers(0, 20, 80)
    assert calibration_error(rows) == ece(rows[:, 0], rows[:, 1])
    slow = bootstrap_interval(rows, lambda drawn: ece(drawn[:, 0], drawn[:, 1]), groups, num_resamples=100)
    assert bootstrap_interval(rows, calibration_error, groups, num_resamples=100) == pytest.approx(slow, abs=1e-12)
