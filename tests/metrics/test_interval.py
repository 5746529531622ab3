import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.metrics.interval import (
    SumStatistic,
    WeightedStatistic,
    bootstrap_interval,
    bootstrap_test,
    mean,
    mean_of_classes,
    paired,
    share,
)


def test_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(values, num_resamples=2000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_covers_the_truth_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        low, high = bootstrap_interval((rng.random(100) < 0.7).astype(float), num_resamples=200)
        inside += low <= 0.7 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_same_seed_same_interval_and_rows_stay_together() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])

    def share(drawn: np.ndarray) -> float:
        return float(drawn[:, 0].sum() / drawn[:, 1].sum())

    assert bootstrap_interval(rows, share, seed=4) == (0.5, 0.5)
    values = np.arange(20.0)
    assert bootstrap_interval(values, seed=7) == bootstrap_interval(values, seed=7)
    assert bootstrap_interval(values, seed=7) != bootstrap_interval(values, seed=8)


def test_sequences_of_records() -> None:
    records = [{"hit": True}] * 5
    assert bootstrap_interval(records, lambda drawn: float(np.mean([one["hit"] for one in drawn]))) == (1.0, 1.0)


def test_repeated_rows_of_a_group_are_no_new_evidence() -> None:
    values = np.random.default_rng(2).normal(0.0, 1.0, 30)
    once = bootstrap_interval(values)
    repeated, groups = np.repeat(values, 9), np.repeat(np.arange(30), 9)
    assert bootstrap_interval(repeated, groups=groups) == pytest.approx(once, abs=1e-12)
    low, high = bootstrap_interval(repeated)
    assert (once[1] - once[0]) / (high - low) == pytest.approx(3.0, rel=0.1)  # nine times the rows, a third as wide


def test_groups_of_any_size_stay_whole_wherever_their_rows_are() -> None:
    rows = [("clip a", 1.0), ("clip b", 0.0), ("clip a", 1.0), ("clip b", 0.0), ("clip a", 1.0)]
    seen = set()

    def count(drawn: list[tuple[str, float]]) -> float:
        names = [name for name, _ in drawn]
        assert names.count("clip a") % 3 == 0 and names.count("clip b") % 2 == 0
        seen.add(tuple(sorted(names)))
        return float(np.mean([value for _, value in drawn]))

    assert bootstrap_interval(rows, count, [name for name, _ in rows]) == (0.0, 1.0)
    assert {len(names) for names in seen} == {4, 5, 6}  # two of b, one of each, two of a


def test_each_row_needs_a_group() -> None:
    with pytest.raises(ValueError, match="got 2 groups for 3 rows"):
        bootstrap_interval(np.arange(3.0), groups=["a", "b"])


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap_interval(np.array([]))


@settings(max_examples=25)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_holds_the_estimate(values: list[float]) -> None:
    low, high = bootstrap_interval(np.array(values), num_resamples=50)
    assert low <= np.mean(values) <= high


def test_a_paired_test_sees_what_two_intervals_do_not() -> None:
    """A difference of 0.1 that is the same in every group, under a spread of 1 that both share."""
    rng = np.random.default_rng(3)
    shared = np.repeat(rng.normal(0.0, 1.0, 40), 5)
    rows = np.stack([shared + 0.1 + rng.normal(0.0, 0.05, 200), shared], axis=1)
    groups = np.repeat(np.arange(40), 5)
    found = bootstrap_test(rows, lambda drawn: float((drawn[:, 0] - drawn[:, 1]).mean()), groups)
    assert found.value == pytest.approx(0.1, abs=0.01) and 0.08 < found.low < found.high < 0.12
    assert found.p == 1 / 1000
    none = bootstrap_test(rows[:, 0] - shared - 0.1, np.mean, groups)
    assert none.low < 0 < none.high and none.p > 0.05
    assert bootstrap_test(np.zeros(5), np.mean).p == 1.0


def picked(statistic: SumStatistic) -> Callable[[np.ndarray], float]:
    """Hide that a statistic is one of sums, so that every resample picks its rows."""
    return lambda rows: statistic(rows)


@pytest.mark.parametrize(("statistic", "width"), [(mean, None), (share, 2), (mean_of_classes, 2)])
def test_resampling_sums_equals_resampling_rows(statistic: SumStatistic, width: int | None) -> None:
    rng = np.random.default_rng(5)
    rows = rng.random(60) if width is None else rng.random((60, width))
    if statistic is mean_of_classes:
        rows[:, 0] = rng.integers(0, 3, 60)
    groups = rng.integers(0, 12, 60)
    slow = bootstrap_interval(rows, picked(statistic), groups, num_resamples=200)
    assert bootstrap_interval(rows, statistic, groups, num_resamples=200) == pytest.approx(slow, abs=1e-12)


def test_weights_count_rows_as_often_as_their_group_is_drawn() -> None:
    rng = np.random.default_rng(6)
    rows, groups = rng.random(40), rng.integers(0, 9, 40)
    weighted = WeightedStatistic(prepare=lambda rows: lambda weights: float(np.average(rows, weights=weights)))
    assert weighted(rows) == pytest.approx(rows.mean())
    assert bootstrap_interval(rows, weighted, groups) == pytest.approx(bootstrap_interval(rows, mean, groups))


def test_statistics_by_hand() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert share([(1, 2), (2, 4), (3, 10)]) == 6 / 16
    assert mean_of_classes([(0, 1.0), (0, 0.0), (1, 1.0), (7, 0.0)]) == pytest.approx((0.5 + 1 + 0) / 3)
    assert math.isnan(share([(0, 0)]))


def test_resamples_without_a_value_are_left_out() -> None:
    """Only one of three rows has a whole; a third of the resamples misses it."""
    assert bootstrap_interval(np.array([[1, 2], [0, 0], [0, 0]]), share) == (0.5, 0.5)
    low, high = bootstrap_interval(np.zeros((3, 2)), share)
    assert math.isnan(low) and math.isnan(high)
    assert bootstrap_test(np.zeros((3, 2, 2)), paired(share)).p == 1.0


def test_a_paired_statistic_is_the_difference_of_its_sides() -> None:
    rows = np.random.default_rng(7).random((50, 2, 2))
    difference = paired(share)
    assert difference(rows) == pytest.approx(share(rows[:, 0]) - share(rows[:, 1]))
    slow = bootstrap_test(rows, lambda drawn: share(drawn[:, 0]) - share(drawn[:, 1]))
    assert bootstrap_test(rows, difference) == pytest.approx(slow, abs=1e-12)
    same = np.stack([rows[:, 0], rows[:, 0]], axis=1)
    assert bootstrap_test(same, difference) == (0.0, 0.0, 0.0, 1.0)
