import math

import numpy as np
import pytest
from gaze.support.trials import make_crowd, make_trial

from sa2va.gaze.baselines.packs import AFTER, BEFORE, WORD, PackSizes, build_scanpath, kind_of
from sa2va.gaze.timing import SpeechTiming


def test_kinds() -> None:
    assert [kind_of(pack, 5) for pack in range(5)] == [BEFORE, WORD, WORD, WORD, AFTER]
    assert [kind_of(pack, 2) for pack in range(2)] == [BEFORE, AFTER]


def test_packs_without_a_law_are_counted() -> None:
    """Two people: one fixation each before the words; none and two after them; always one per word, so no law."""
    both = [
        make_trial([(1, 1)] * 4, [-9, 60, 210, 510]),
        make_trial([(1, 1)] * 6, [-9, 60, 210, 510, 950, 999]),
    ]
    sizes = PackSizes()
    sizes.fit(both)
    table = sizes.probabilities(both[0])
    assert table.shape == (5, 4) and table.sum(1) == pytest.approx(1)
    prior = 1 / 4  # of each size up to the largest one
    total = 2 + prior * 21
    assert table[0, 1] == pytest.approx((2 + prior) / total)
    assert table[4, [0, 2]] == pytest.approx((1 + prior) / total)
    assert sizes.log_prob(both[1])[4] == pytest.approx(math.log((1 + prior) / total))


def test_long_words_get_more() -> None:
    """Words of 600 ms hold two fixations, those of 150 ms none: the law finds it."""
    trials = []
    for person in range(20):
        clock = SpeechTiming(onsets=(0.0, 150.0 + person), ends=(150.0 + person, 750.0), duration=750.0)
        trials.append(make_trial([(1, 1)] * 2, [300, 500], words=("a", "b"), clock=clock))
    sizes = PackSizes()
    sizes.fit(trials)
    table = sizes.probabilities(trials[0])
    assert table[1].argmax() == 0 and table[2].argmax() == 2
    drawn = np.array([sizes.draw(trials[0], np.random.default_rng(seed)) for seed in range(200)])
    assert drawn[:, 2].mean() > drawn[:, 1].mean() + 1
    assert drawn.sum(1).min() >= 1


def test_a_scanpath_of_places() -> None:
    case = make_crowd(1, 1)[0]
    path = build_scanpath(case, [[(1, 2)], [], [(3, 4), (5, 6)], [], [(7, 8)]])
    assert path.sizes == [1, 0, 2, 0, 1] and path.words == ("the", "red", "cup")
    assert path.starts.tolist() == [-200, 200, 350, 900]
    assert path.points.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
