"""Check how a person looks: never by what has not been said, until the target is found, and as their numbers say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from gaze.support.simulated_stimulus import BOUNDS, BOXES, make_stimulus

from sa2va.gaze.simulator import viewing
from sa2va.gaze.simulator.observers import Observer, draw_observer
from sa2va.gaze.simulator.policy import EXPLORE, SCAN, WAIT, PlanningState, holds, log_density, propose
from sa2va.gaze.simulator.viewing import START, Step, Stimulus, believe, simulate_scanpath

PERSON = draw_observer(0, 1)
STIMULUS = make_stimulus([(0, 1, 2), (0, 1, 2), (0, 1), (1,)], onsets=(50, 300, 700), duration=1200)


def points_of(steps: list[Step]) -> np.ndarray:
    return np.array([(step.fixation.x, step.fixation.y) for step in steps])


def test_the_same_look_twice() -> None:
    first, second = (simulate_scanpath(STIMULUS, PERSON, [4, 2]) for _ in range(2))
    assert repr(first) == repr(second)
    assert repr(simulate_scanpath(STIMULUS, PERSON, [4, 3])) != repr(first)


@pytest.mark.parametrize("seed", range(40))
def test_a_look_ends_on_the_target_and_stays_in_the_picture(seed: int) -> None:
    steps = simulate_scanpath(STIMULUS, draw_observer(1, seed), [seed])
    assert steps[0].kind == START and math.isnan(steps[0].log_density)
    assert holds(BOXES[1], tuple(points_of(steps)[-1]))
    assert all(holds(BOUNDS, tuple(point)) for point in points_of(steps))
    times = [(step.fixation.start, step.fixation.start + step.fixation.duration) for step in steps]
    assert all(end < start for (_, end), (start, _) in zip(times, times[1:], strict=False))
    heard = [step.heard for step in steps]
    assert heard == sorted(heard) and heard[-1] <= 3
    assert all(sum(step.belief) == pytest.approx(1) for step in steps)


@pytest.mark.parametrize("seed", range(30))
def test_words_to_come_change_nothing(seed: int) -> None:
    """Same beginning, another end: all is equal until the first saccade that another word could change."""
    other = make_stimulus([(0, 1, 2), (0, 1, 2), (0, 2), (2,)], onsets=(50, 300, 900), duration=2000)
    ours, theirs = simulate_scanpath(STIMULUS, PERSON, [seed]), simulate_scanpath(other, PERSON, [seed])
    assert repr(ours[0]) == repr(theirs[0])  # its density is no number
    for before, after in zip(ours[1:], theirs[1:], strict=False):
        if before.heard > 1:
            break
        assert before == after
    else:
        pytest.fail("no word was ever heard")


def test_nobody_hears_before_the_latency() -> None:
    for seed in range(60):
        for step, planned in zip((steps := simulate_scanpath(STIMULUS, PERSON, [seed]))[1:], steps, strict=False):
            now = planned.fixation.start + planned.fixation.duration
            earliest = np.array(STIMULUS.timing.onsets) + viewing.MIN_LATENCY
            assert step.heard <= (earliest <= now).sum()


def test_belief_follows_the_words() -> None:
    everyone, two, one = (believe(STIMULUS, PERSON, heard, settled=False) for heard in (1, 2, 3))
    assert everyone == pytest.approx([1 / 3] * 3)
    assert two[2] == pytest.approx(PERSON.doubt * two[0]) and two[0] == two[1]
    assert one[0] == one[2] == pytest.approx(PERSON.doubt * one[1])
    assert believe(STIMULUS, PERSON, 3, settled=True)[1] > one[1]
    assert believe(STIMULUS, PERSON, 2, settled=True) == pytest.approx(two)  # not all was heard


def without_stop(person: Observer) -> Observer:
    """A person who goes on until patience ends."""
    return replace(person, stop_before=0.0, stop_arrival=0.0, stop_after=0.0)


def watch(stimulus: Stimulus, person: Observer, count: int) -> list[list[Step]]:
    return [simulate_scanpath(stimulus, person, [seed, 9]) for seed in range(count)]


def test_latency_can_be_read_off_the_gaze() -> None:
    """One word at 1000 ms tells all. The share of saccades to the target rises half-way at onset + latency."""
    stimulus = make_stimulus([(0, 1, 2), (1,)], onsets=(1000,), duration=2500)
    for latency in (150.0, 250.0):
        person = replace(
            PERSON, latency=latency, doubt=0.02, wait_before=0.1, wait_after=0.1, explore=0.05, verify=0.05
        )
        delays, hits = [], []
        for steps in watch(stimulus, person, 250):
            for planned, step in zip(steps, steps[1:], strict=False):
                delays.append(planned.fixation.start + planned.fixation.duration - 1000)
                hits.append(holds(BOXES[1], (step.fixation.x, step.fixation.y)))
        assert find_rise(np.array(delays), np.array(hits, float)) == pytest.approx(latency, abs=40)


def find_rise(times: np.ndarray, values: np.ndarray) -> float:
    """Fit one step: the time that splits values around it into two parts as even as can be."""
    near = (times > -400) & (times < 800)
    times, values = times[near], values[near]

    def unevenness(edge: float) -> float:
        return sum(float(part.var() * len(part)) for part in (values[times < edge], values[times >= edge]))

    return min(np.arange(10.0, 500.0, 10.0), key=unevenness)


def test_durations_and_shares_can_be_read_off_the_gaze() -> None:
    silent = make_stimulus([(0, 1, 2), (1,)], onsets=(4000,), duration=4500)
    person = replace(PERSON, log_duration=5.3, log_duration_spread=0.4, wait_before=0.4, explore=0.3)
    early = [
        step
        for steps in watch(silent, person, 120)
        for step in steps[1:]
        if not step.heard and step.fixation.start < 3500
    ]
    logs = np.log([step.fixation.duration for step in early])
    assert np.median(logs) == pytest.approx(5.3, abs=0.06)
    kinds = [step.kind for step in early]
    assert kinds.count(WAIT) / len(kinds) == pytest.approx(0.4, abs=0.05)
    assert kinds.count(EXPLORE) / len(kinds) == pytest.approx(0.6 * 0.3, abs=0.04)
    assert kinds.count(SCAN) / len(kinds) == pytest.approx(0.6 * 0.7, abs=0.05)


def test_patience_ends() -> None:
    for steps in watch(STIMULUS, without_stop(PERSON), 10):
        over = steps[-1].fixation.start - STIMULUS.timing.duration
        assert holds(BOXES[1], tuple(points_of(steps)[-1])) and over < viewing.TIMEOUT + 6000


def test_who_hears_late_explains_the_gaze_worse() -> None:
    """The stated density is that of a grounder with the true latency; one who misses the last word loses bits."""
    true, late = [], []
    for steps in watch(STIMULUS, PERSON, 80):
        for index, (planned, step) in enumerate(zip(steps, steps[1:], strict=False)):
            if step.heard < 2 or planned.fixation.start > STIMULUS.timing.duration:
                continue
            point = (planned.fixation.x, planned.fixation.y)
            heard = step.heard - 1
            state = PlanningState(
                point=point,
                belief=believe(STIMULUS, PERSON, heard, settled=False),
                informed=not STIMULUS.possible[heard].all(),
                past_aims=[one.aim for one in steps[: index + 1] if one.aim is not None],
            )
            true.append(step.log_density)
            late.append(log_density(propose(state, BOXES, PERSON), (step.fixation.x, step.fixation.y), BOUNDS))
    assert len(true) > 100 and (np.mean(true) - np.mean(late)) / math.log(2) > 0.15
