import math
from dataclasses import replace

import numpy as np
import pytest
from gaze.support.trials import make_crowd, make_trial

from sa2va.gaze.baselines.base import Baseline
from sa2va.gaze.baselines.image_blind import (
    CenterBaseline,
    OtherImageBaseline,
    RandomBaseline,
    SaccadeWalk,
    StraightLine,
    fit_packs,
)
from sa2va.gaze.baselines.mixture import MixtureBaseline

BASELINES = [
    RandomBaseline,
    CenterBaseline,
    OtherImageBaseline,
    SaccadeWalk,
    StraightLine,
    lambda: MixtureBaseline("all"),
]


@pytest.mark.parametrize("make", BASELINES)
def test_what_every_rival_keeps(make: type[Baseline]) -> None:
    crowd = make_crowd()
    baseline, case = make(), make_trial([], [], case="new", photo="new")
    baseline.fit(crowd)
    paths = baseline.sample(case, 5, seed=3)
    assert len(paths) == 5
    assert baseline.sample(case, 5, seed=3) == paths
    for path in paths:
        assert path.words == case.scanpath.words and len(path.points) >= 1
        assert (path.points >= 0).all() and (path.points < [512, 320]).all()
    density, sizes = baseline.log_density(crowd[0]), baseline.pack_size_log_prob(crowd[0])
    assert density is None or (density.shape == (6,) and np.isfinite(density).all())
    assert sizes is None or (sizes.shape == (5,) and (sizes < 0).all())


@pytest.mark.parametrize("make", BASELINES)
def test_a_case_is_not_looked_at(make: type[Baseline]) -> None:
    """What people did there changes nothing of a sample."""
    baseline = make()
    baseline.fit(make_crowd())
    case = make_trial([(9, 9), (400, 300)], [-9, 950], case="new", photo="new")
    blank = replace(case, scanpath=make_trial([], [], case="new").scanpath)
    assert baseline.sample(case, 3, seed=0) == baseline.sample(blank, 3, seed=0)


def test_the_straight_line_by_hand() -> None:
    """From 256, 160 to 440, 250 in four equal steps."""
    (path,) = StraightLine().sample(make_trial([], []), 1, seed=0)
    assert path.points.tolist() == [[256, 160], [302, 182.5], [348, 205], [394, 227.5], [440, 250]]
    assert path.sizes == [1] * 5
    with pytest.raises(ValueError, match="no target box"):
        StraightLine().sample(replace(make_trial([], []), target=None), 1, seed=0)


def test_the_center_by_hand() -> None:
    (path,) = CenterBaseline().sample(make_trial([], []), 1, seed=0)
    assert path.points.tolist() == [[256, 160]] * 5


def test_chance_is_flat() -> None:
    baseline = RandomBaseline()
    baseline.fit(make_crowd())
    assert baseline.log_density(make_crowd()[0]) == pytest.approx(-math.log(512 * 320))
    points = np.concatenate([path.points for path in baseline.sample(make_trial([], []), 300, seed=0)])
    assert points.mean(0) == pytest.approx([256, 160], abs=12)


def test_another_picture_is_another_one() -> None:
    """Of two expressions about one photo, the other one is no other picture."""
    baseline = OtherImageBaseline()
    own = make_trial([(1, 1)], [-9], case="1", photo="same")
    twin = make_trial([(2, 2)], [-9], case="2", photo="same")
    baseline.fit([own, twin])
    with pytest.raises(ValueError, match="two images"):
        baseline.sample(own, 1, seed=0)
    baseline.fit([own, twin, make_trial([(3, 3)], [-9], case="3", photo="other")])
    assert baseline.sample(own, 1, seed=0)[0].points.tolist() == [[3, 3]]


def test_packs_of_another_length() -> None:
    packs = [np.full((1, 2), number) for number in range(4)]
    assert [pack.tolist() for pack in fit_packs(packs, 3)] == [[[0, 0]], [[1, 1]], [[3, 3]]]
    assert [len(pack) for pack in fit_packs(packs, 6)] == [1, 1, 1, 0, 0, 1]


def test_the_walk_takes_human_steps() -> None:
    """The only saccade ever made goes 100 px to the right: two steps fit, then none does."""
    baseline = SaccadeWalk()
    baseline.fit([make_trial([(100, 160), (200, 160)], [-9, 60])])
    for path in baseline.sample(make_trial([], []), 20, seed=0):
        expected = [[256 + 100 * min(number, 2), 160] for number in range(len(path.points))]
        assert path.points.tolist() == expected
