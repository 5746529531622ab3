"""Check the people of the drawn world: always the same, all different, within their limits."""

from dataclasses import asdict

import numpy as np
import pytest

from sa2va.gaze.simulator.observers import POPULATION, Trait, draw_observer


def test_a_person_stays_the_same() -> None:
    assert draw_observer(3, 7) == draw_observer(3, 7)
    assert draw_observer(3, 7) != draw_observer(3, 8)
    assert draw_observer(3, 7) != draw_observer(4, 7)


def test_people_differ_as_the_population_says() -> None:
    crowd = [asdict(draw_observer(0, subject)) for subject in range(300)]
    for name, trait in POPULATION.items():
        values = np.array([person[name] for person in crowd])
        assert trait.low <= values.min() and values.max() <= trait.high, name
        assert values.mean() == pytest.approx(trait.mean, abs=0.35 * trait.spread), name
        assert values.std() == pytest.approx(trait.spread, rel=0.25), name


def test_what_lies_beyond_a_limit_is_drawn_again() -> None:
    rng = np.random.default_rng(0)
    values = [Trait(0.0, 1.0, 0.0, 9.0).draw(rng) for _ in range(500)]
    assert min(values) > 0 and np.mean(values) == pytest.approx((2 / np.pi) ** 0.5, abs=0.1)  # half a normal


@pytest.mark.parametrize(("seed", "subject"), [(-1, 0), (0, -1)])
def test_bad_numbers(seed: int, subject: int) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        draw_observer(seed, subject)
