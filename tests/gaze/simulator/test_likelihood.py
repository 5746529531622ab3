"""The likelihood of drawn people: exact where everything is known, and equal to a count over all that is not."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("sa2va.world")
from gaze.support.simulated_stimulus import BOUNDS, make_stimulus
from scipy.stats import lognorm

from sa2va.gaze.scanpath import Fixation
from sa2va.gaze.simulator import likelihood, policy, viewing
from sa2va.gaze.simulator.likelihood import Particles, draw_particles, estimate_bits, log_predictive
from sa2va.gaze.simulator.observers import POPULATION, Observer, draw_observer
from sa2va.gaze.simulator.viewing import Stimulus, believe, simulate_scanpath

STIMULUS = make_stimulus([(0, 1, 2), (0, 1), (0, 1), (1,)], (50.0, 350.0, 700.0), 1100.0)


def build_particles(stimulus: Stimulus, observers: list[Observer], arrivals: list[np.ndarray]) -> Particles:
    traits = {name: np.array([getattr(one, name) for one in observers]) for name in POPULATION}
    return Particles(traits, np.tile(stimulus.saliency, (len(observers), 1)), np.stack(arrivals))


@pytest.mark.parametrize("subject", range(12))
def test_one_who_knows_everything_has_the_density_that_drew_it(subject: int) -> None:
    observer, seed = draw_observer(0, subject), [7, subject]
    steps = simulate_scanpath(STIMULUS, observer, seed)
    arrivals = viewing._draw_arrivals(STIMULUS.timing, observer, np.random.default_rng([*seed, 0]))
    found = log_predictive(
        STIMULUS,
        [step.fixation for step in steps],
        build_particles(STIMULUS, [observer], [arrivals]),
        np.random.default_rng(0),
        aims=[step.aim for step in steps],
    )
    assert np.allclose(found[1:], [step.log_density for step in steps[1:]], atol=1e-9)
    wide = math.log(2 * math.pi * viewing.CENTER_SPREAD**2)
    x, y = steps[0].fixation.x - 256, steps[0].fixation.y - 160
    assert found[0] == pytest.approx(-(x * x + y * y) / 2 / viewing.CENTER_SPREAD**2 - wide, abs=1e-9)


def count_all(stimulus: Stimulus, fixations: list[Fixation], people: list[tuple[Observer, np.ndarray]]) -> list[float]:
    """Sum over people and over every row of aims, one by one, with the functions that draw."""
    worlds = [(1 / len(people), observer, arrivals, []) for observer, arrivals in people]
    logs = []
    for before, now in pairwise(fixations):
        seen = fixations[: fixations.index(before) + 1]
        at = before.start + before.duration
        new, total, mass = [], 0.0, 0.0
        for weight, observer, arrivals, past_aims in worlds:
            earlier = float("-inf") if len(seen) == 1 else seen[-2].start + seen[-2].duration
            heard_then = int((arrivals <= earlier).sum())
            then = believe(
                stimulus, observer, heard_then, settled=earlier >= stimulus.timing.duration + viewing.SETTLING
            )
            then = stimulus.saliency if len(seen) == 1 else then
            here = [s for b, s in zip(stimulus.boxes, then, strict=True) if policy.holds(b, (before.x, before.y))]
            mean = observer.log_duration + viewing.BELIEF_DWELL * max(here, default=0.0)
            laws = [(1 - viewing.CORRECTIVE, mean, observer.log_duration_spread)]
            laws.append((viewing.CORRECTIVE, viewing.CORRECTIVE_LOG, viewing.CORRECTIVE_LOG_SPREAD))
            lasts = 0.0
            for share, middle, spread in laws:
                law = lognorm(spread, scale=math.exp(middle))
                lasts += share * law.pdf(before.duration) / np.diff(law.cdf(viewing.DURATIONS))[0]
            heard = int((arrivals <= at).sum())
            over, timed_out = at >= stimulus.timing.duration, at >= stimulus.timing.duration + viewing.TIMEOUT
            steps = [viewing.Step(fixation=one, kind="", aim=None, heard=0, belief=(), log_density=0.0) for one in seen]
            weight *= lasts * (1 - viewing._stop_chance(stimulus, observer, steps, heard, over, timed_out))
            mass += weight
            belief = believe(stimulus, observer, heard, settled=at >= stimulus.timing.duration + viewing.SETTLING)
            state = policy.PlanningState(
                point=(before.x, before.y),
                belief=belief,
                informed=not stimulus.possible[heard].all(),
                past_aims=past_aims,
            )
            for goal in policy.propose(state, stimulus.boxes, observer):
                density = math.exp(policy.log_density([replace(goal, chance=1.0)], (now.x, now.y), BOUNDS))
                total += weight * goal.chance * density
                aimed = past_aims if goal.aim is None else [*past_aims, goal.aim]
                new.append((weight * goal.chance * density, observer, arrivals, aimed))
        logs.append(math.log(total / mass))
        worlds = new
    return logs


def test_what_is_unknown_is_summed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people with two clocks each, all rows of aims; that an object was looked at matters a lot here."""
    for module in (policy, likelihood):
        monkeypatch.setattr(module, "INHIBITION", 0.05)
    base = draw_observer(0, 3)
    curious = replace(base, wait_before=0.1, explore=0.9, log_duration=5.0, doubt=0.19, sharpness=1.0)
    lazy = replace(base, wait_before=0.6, explore=0.1, log_duration=5.9, doubt=0.01, sharpness=2.0)
    clocks = [np.array([200.0, 500.0, 900.0]), np.array([400.0, 800.0, 1300.0])]
    people = [(one, clock) for one in (curious, lazy) for clock in clocks]
    places = [(256, 160), (150, 60), (340, 60), (160, 70), (345, 240), (350, 250)]
    fixations = [Fixation(float(x), float(y), -150.0 + 290 * n, 240.0) for n, (x, y) in enumerate(places)]
    copies = 20_000
    crowd = build_particles(
        STIMULUS, [p for p, _ in people for _ in range(copies)], [a for _, a in people for _ in range(copies)]
    )
    found = log_predictive(STIMULUS, fixations, crowd, np.random.default_rng(0))
    assert np.allclose(found[1:], count_all(STIMULUS, fixations, people), atol=0.02)


def test_particles_follow_the_prior() -> None:
    particles = draw_particles(STIMULUS, 4000, np.random.default_rng(0))
    people = [draw_observer(0, number) for number in range(600)]
    for name, trait in POPULATION.items():
        drawn = particles.traits[name]
        assert drawn.min() >= trait.low and drawn.max() <= trait.high
        assert drawn.mean() == pytest.approx(np.mean([getattr(one, name) for one in people]), abs=0.15 * trait.spread)
    assert np.allclose(particles.saliency.sum(1), 1)
    assert (np.diff(particles.arrivals, axis=1) >= 0).all()
    assert particles.arrivals[:, 0].mean() == pytest.approx(50 + POPULATION["latency"].mean, abs=5)


def test_more_particles_err_less_and_the_oracle_is_an_upper_bound() -> None:
    scanpaths = [
        (STIMULUS, [step.fixation for step in simulate_scanpath(STIMULUS, draw_observer(0, n), [5, n])])
        for n in range(6)
    ]
    few, many = (estimate_bits(scanpaths, count=count, repeats=4, seed=0, area=320 * 512.0) for count in (30, 1000))
    assert many.standard_error < few.standard_error and many.standard_error < 0.05
    assert 2 < many.value < 7
