"""Check the paired difference of two systems: by hand, against unpaired tools, and with unequal numbers of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.interval import SumStatistic, WeightedStatistic, bootstrap_test, mean, paired
from sa2va.metrics.paired import Table, difference_test

RNG = np.random.default_rng(0)


def test_equal_systems_do_not_differ() -> None:
    rows = RNG.random(30)
    found = difference_test(Table(rows, mean), Table(rows.copy(), mean))
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_system_that_is_better_on_every_picture_is_better() -> None:
    rows = RNG.random(40)
    found = difference_test(Table(rows, mean), Table(rows + 0.1, mean))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))  # of B minus A
    assert found.p == 1 / 1000


def test_paired_rows_agree_with_the_test_on_pairs() -> None:
    pairs = RNG.random((50, 2))
    groups = [number // 3 for number in range(50)]
    expected = bootstrap_test(pairs[:, ::-1], paired(mean), groups)
    found = difference_test(Table(pairs[:, 0], mean, groups), Table(pairs[:, 1], mean, groups))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "statistic",
    [
        np.mean,
        mean,
        WeightedStatistic(prepare=lambda rows: lambda weights: float(np.average(np.asarray(rows), weights=weights))),
    ],
    ids=["any", "sums", "weights"],
)
def test_every_kind_of_statistic_draws_the_same_groups(statistic: object) -> None:
    first, second = RNG.random(20), RNG.random(20)
    expected = difference_test(Table(first, mean), Table(second, mean), num_resamples=200)
    found = difference_test(Table(first, statistic), Table(second, statistic), num_resamples=200)  # ty: ignore
    assert found == pytest.approx(expected)


def test_rows_of_a_group_may_differ_in_number() -> None:
    """A made 1, B made 3 predictions in picture "a": precision 0 and 2 of 3; in "b" both 1 of 1."""
    first = Table([0.0, 1.0], mean, ["a", "b"])
    second = Table([1.0, 1.0, 0.0, 1.0], mean, ["a", "a", "a", "b"])
    found = difference_test(first, second)
    assert found.value == pytest.approx(3 / 4 - 1 / 2)
    assert (found.low, found.high) == pytest.approx((0.0, 2 / 3))  # only "b" drawn, only "a" drawn


def test_classes_that_one_side_lacks_do_not_shift_terms() -> None:
    one = SumStatistic(terms=lambda rows: np.ones((len(rows), 1)), combine=lambda sums: sums[:, 0])
    two = SumStatistic(terms=lambda rows: np.ones((len(rows), 2)), combine=lambda sums: sums.sum(1))
    assert difference_test(Table([1, 2], one), Table([1, 2], two)).value == 2.0


def test_a_resample_without_rows_of_one_side_is_left_out() -> None:
    first, second = Table(np.array([0.5]), np.mean, ["a"]), Table(np.array([1.0, 0.0]), np.mean, ["a", "b"])
    found = difference_test(first, second)
    assert found.value == 0.0
    assert -0.5 < found.low <= found.high <= 0.5


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (Table([], mean), Table([1.0], mean), "rows of both"),
        (Table([1.0], mean), Table([1.0, 2.0], mean), "1 and 2 rows cannot be paired"),
        (Table([1.0, 2.0], mean, ["a", "a"]), Table([1.0], mean, ["a"]), "a single picture or clip"),
    ],
)
def test_tables_that_cannot_be_paired(first: Table, second: Table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference_test(first, second)


@pytest.mark.parametrize(("num_groups", "p"), [(2, 0.5), (3, 0.25), (5, 0.0625), (40, 0.001)])
def test_few_groups_are_never_sure(num_groups: int, p: float) -> None:
    rows = RNG.random(num_groups)
    assert difference_test(Table(rows, mean), Table(rows + 0.1, mean)).p == p


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 3)), min_size=1, max_size=8))
def test_exchanging_the_systems_changes_the_sign(rows: list[tuple[float, float, int]]) -> None:
    before, after, groups = zip(*rows, (0.0, 0.0, 4), strict=True)
    first, second = Table(before, mean, groups), Table(after, mean, groups)
    there = difference_test(first, second, num_resamples=50)
    back = difference_test(second, first, num_resamples=50)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12)
    assert back.p == there.p
