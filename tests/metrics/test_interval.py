import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.metrics.interval import bootstrap_interval, bootstrap_test


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
