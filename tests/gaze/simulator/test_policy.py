"""Check where a person of the drawn world goes next, and that the stated density is the one that is drawn from."""

import math

import numpy as np
import pytest
from gaze.support.simulated_stimulus import BOUNDS, BOXES
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.gaze.simulator import policy
from sa2va.gaze.simulator.observers import draw_observer
from sa2va.gaze.simulator.policy import (
    EXPLORE,
    SCAN,
    VERIFY,
    WAIT,
    Goal,
    PlanningState,
    choose,
    draw_point,
    log_density,
    propose,
)

PERSON = draw_observer(0, 0)


def make_state(
    belief: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3), point: tuple[float, float] = (256, 160), **known: object
) -> PlanningState:
    return PlanningState(point=point, belief=np.array(belief), **({"informed": False} | known))


def chances(goals: list[Goal]) -> dict[str, float]:
    kinds = {goal.kind for goal in goals}
    return {kind: sum(goal.chance for goal in goals if goal.kind == kind) for kind in kinds}


@given(
    st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    st.tuples(st.floats(96, 416), st.floats(0, 320)),
    st.booleans(),
    st.lists(st.integers(0, 2), max_size=4),
)
def test_chances_sum_to_one(belief: list, point: tuple, informed: bool, past_aims: list) -> None:
    state = make_state(tuple(np.array(belief) / sum(belief)), point, informed=informed, past_aims=past_aims)
    goals = propose(state, BOXES, PERSON)
    assert sum(goal.chance for goal in goals) == pytest.approx(1)
    assert all(goal.chance >= 0 for goal in goals)
    assert {goal.aim for goal in goals if goal.kind == SCAN} == {0, 1, 2}


def test_the_person_decides_how_much_of_each() -> None:
    unsure = chances(propose(make_state(), BOXES, PERSON))
    assert unsure[WAIT] == pytest.approx(PERSON.wait_before) and VERIFY not in unsure
    assert unsure[EXPLORE] == pytest.approx((1 - PERSON.wait_before) * PERSON.explore)
    informed = chances(propose(make_state((0.4, 0.4, 0.2), informed=True), BOXES, PERSON))
    assert informed[WAIT] == pytest.approx(PERSON.wait_after) and VERIFY not in informed
    sure = chances(propose(make_state((0.8, 0.1, 0.1), informed=True), BOXES, PERSON))
    assert sure[WAIT] == pytest.approx(PERSON.wait_after * policy.CLEAR_WAIT)
    assert sure[VERIFY] == pytest.approx((sure[SCAN] + sure[VERIFY]) * PERSON.verify)
    there = make_state((0.8, 0.1, 0.1), (150, 60), informed=True)
    assert chances(propose(there, BOXES, PERSON))[WAIT] == pytest.approx(PERSON.wait_there)


def test_one_verifies_the_other_object_from_where_one_is() -> None:
    away = propose(make_state((0.8, 0.05, 0.15)), BOXES, PERSON)
    there = propose(make_state((0.8, 0.05, 0.15), (150, 60)), BOXES, PERSON)
    assert [goal.aim for goal in away if goal.kind == VERIFY] == [0]
    assert [goal.aim for goal in there if goal.kind == VERIFY] == [2]


def test_belief_nearness_and_novelty_attract() -> None:
    def share(state: PlanningState) -> float:
        return float(policy.attraction(state, BOXES, PERSON)[0])

    plain = share(make_state())
    assert share(make_state((0.6, 0.2, 0.2))) > plain
    assert share(make_state(point=(200, 60))) > plain
    assert share(make_state(past_aims=[0])) < plain
    assert share(make_state(past_aims=[0, 1, 2])) > share(
        make_state(past_aims=[0, 1])
    )  # what was long ago is forgotten


def test_with_one_object_there_is_nothing_to_check() -> None:
    goals = propose(make_state((1.0,)), BOXES[:1], PERSON)
    assert VERIFY not in chances(goals) and sum(goal.chance for goal in goals) == pytest.approx(1)


@settings(max_examples=6, deadline=None)
@given(st.tuples(st.floats(96, 416), st.floats(0, 320)), st.booleans())
def test_the_density_of_the_picture_sums_to_one(point: tuple, informed: bool) -> None:
    goals = propose(make_state((0.7, 0.2, 0.1), point, informed=informed), BOXES, PERSON)
    step = 8.0
    xs, ys = np.arange(96 + step / 2, 416, step), np.arange(step / 2, 320, step)
    total = sum(math.exp(log_density(goals, (x, y), BOUNDS)) for x in xs for y in ys) * step**2
    assert total == pytest.approx(1, abs=0.01)


def test_draws_follow_the_density() -> None:
    """Four quarters of the picture get the share of draws that the density promises, close to an edge too."""
    goals = propose(make_state((0.5, 0.3, 0.2), (110, 310), informed=True), BOXES, PERSON)
    rng = np.random.default_rng(0)
    points = np.array([draw_point(choose(goals, rng), BOUNDS, rng) for _ in range(4000)])
    assert points.min(0)[0] >= 96 and points.min(0)[1] >= 0 and points.max() <= 416 and points.max(0)[1] <= 320
    step = 8.0
    for left in (96, 256):
        for top in (0, 160):
            inside = (points >= (left, top)).all(1) & (points < (left + 160, top + 160)).all(1)
            cells = [(left + step * (i + 0.5), top + step * (j + 0.5)) for i in range(20) for j in range(20)]
            promised = sum(math.exp(log_density(goals, cell, BOUNDS)) for cell in cells) * step**2
            assert inside.mean() == pytest.approx(promised, abs=0.03)


def test_beyond_the_edge_is_drawn_again_not_moved() -> None:
    rng = np.random.default_rng(0)
    goal = Goal(WAIT, 1.0, 96.0, 0.0, 20.0, 20.0)  # three quarters of it lie outside
    points = np.array([draw_point(goal, BOUNDS, rng) for _ in range(500)])
    assert not (points == (96.0, 0.0)).any() and goal.mass_inside(BOUNDS) == pytest.approx(0.25, abs=1e-6)
    assert points.mean(0) == pytest.approx([96 + 20 * (2 / math.pi) ** 0.5, 20 * (2 / math.pi) ** 0.5], abs=2)


def test_a_place_without_a_chance() -> None:
    assert log_density([Goal(SCAN, 1.0, 100.0, 10.0, 0.1, 0.1, 0)], (400.0, 300.0), BOUNDS) == -math.inf
