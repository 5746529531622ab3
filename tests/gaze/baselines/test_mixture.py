import math

import numpy as np
import pytest
from gaze.support.trials import make_crowd, make_trial

from sa2va.gaze.baselines.mixture import PHASES, MixtureBaseline, normal_density, phases_of, references


def test_moments_by_hand() -> None:
    assert phases_of([2, 1, 0, 1, 3], ordered=True).tolist() == [0, 1, 4, 2, PHASES - 2, PHASES - 1, PHASES - 1]
    assert phases_of([2, 1, 0, 1, 3], ordered=False).tolist() == [0, 0, 4, 2, PHASES - 2, PHASES - 2, PHASES - 2]
    assert phases_of([0] + [1] * 7 + [0], ordered=True).tolist() == [6, 6, 6, 5, 4, 3, 2]


def test_a_normal_law_by_hand() -> None:
    """In the middle of the canvas nothing is cut off; in its corner three quarters are."""
    spread = np.array([10.0, 20.0])
    (middle,) = normal_density(np.array([[256.0, 160.0]]), np.array([256.0, 160.0]), spread)
    (corner,) = normal_density(np.array([[0.0, 0.0]]), np.array([0.0, 0.0]), spread)
    assert middle == pytest.approx(1 / (2 * math.pi * 200))
    assert corner == pytest.approx(4 / (2 * math.pi * 200))


@pytest.mark.parametrize(("number", "step"), [(0, 32), (1, 32), (3, 8)])
def test_the_density_sums_to_one(number: int, step: int) -> None:
    """Move the third fixation over the whole canvas, some px at a time: nothing else changes, so the sum is 1."""
    baseline = references()[number]
    baseline.fit(make_crowd())
    columns, rows = np.meshgrid(np.arange(step // 2, 512, step), np.arange(step // 2, 320, step))
    total = 0.0
    for x, y in zip(columns.ravel().tolist(), rows.ravel().tolist(), strict=True):
        total += step**2 * math.exp(
            baseline.log_density(make_trial([(256, 160), (250, 170), (x, y)], [-9, 60, 210]))[2]
        )
    assert total == pytest.approx(1, abs=0.01)


def test_each_cause_helps() -> None:
    """The more a reference knows, the likelier new people are."""
    ladder = references()
    bits = []
    for baseline in ladder:
        baseline.fit(make_crowd(8, seed=1))
        bits.append(np.mean([baseline.log_density(trial).mean() for trial in make_crowd(8, seed=2)]))
    assert bits == sorted(bits)
    assert bits[3] > bits[2] + 0.2 > bits[0] + 0.5


def test_samples_follow_the_density() -> None:
    """Samples of the full mixture end at the target as people do, those without it do not."""
    case = make_trial([], [], case="new", target=(420, 240, 480, 300))
    near = []
    for baseline in (MixtureBaseline("knows", ordered=True), MixtureBaseline("does not", target=False)):
        baseline.fit(make_crowd(12))
        ends = np.array([path.points[-1] for path in baseline.sample(case, 100, seed=0)])
        near.append(np.mean(np.linalg.norm(ends - [450, 270], axis=1) < 60))
    assert near[0] > 0.7 > 0.3 > near[1]
