import math

import pytest

from sa2va.gaze.metrics.target import (
    HitCurve,
    any_hit,
    curve_gap,
    hit_curve,
    inside_box,
    last_hit,
    latency_to_target,
)

NAN = float("nan")


def test_the_edges_of_a_box_belong_to_it() -> None:
    points = [[10, 20], [30, 40], [9.9, 20], [30.1, 40], [20, 41]]
    assert inside_box(points, (10, 20, 30, 40)).tolist() == [True, True, False, False, False]
    assert inside_box([], (0, 0, 1, 1)).shape == (0,)


@pytest.mark.parametrize(
    ("flags", "last", "any_"),
    [([], False, False), ([True, False], False, True), ([False, True], True, True), ([False], False, False)],
)
def test_hits(flags: list[bool], last: bool, any_: bool) -> None:
    assert last_hit(flags) is last and any_hit(flags) is any_


def test_hit_curve_by_hand() -> None:
    """An expression of two words and one of one word share "no word left"."""
    curve = hit_curve([[[False], [False, True], [True], [True, True]], [[True], [False], []]])
    assert curve.before == 0.5 and curve.after == 1.0
    assert curve.words_left == {0: 0.5, 1: 0.5}


def test_places_nobody_looked_at() -> None:
    curve = hit_curve([[[], [], []]])
    assert math.isnan(curve.before) and math.isnan(curve.after) and not curve.words_left
    assert math.isnan(curve_gap(curve, curve))


def test_gap_of_curves() -> None:
    one = HitCurve(before=0.1, words_left={0: 0.5, 1: 0.2}, after=NAN)
    other = HitCurve(before=0.3, words_left={0: 0.9}, after=0.7)
    assert curve_gap(one, other) == pytest.approx((0.2 + 0.4) / 2)
    assert curve_gap(one, one) == 0


def test_latency_by_hand() -> None:
    """A fixation that is on the target already when the noun begins does not count."""
    assert latency_to_target([100, 400, 900], [True, False, True], 300) == 600
    assert latency_to_target([300], [True], 300) == 0
    assert math.isnan(latency_to_target([100], [True], 300))
    assert math.isnan(latency_to_target([], [], 300))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="x0 <= x1"):
        inside_box([[0, 0]], (5, 0, 4, 1))
    with pytest.raises(ValueError, match="1 packs, expected at least 2"):
        hit_curve([[[True]]])
    with pytest.raises(ValueError, match="2 starts and 1 hits"):
        latency_to_target([1, 2], [True], 0)
