import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.gaze.metrics.maps import blurred, correlation, fixation_map, nss, score_image, score_packs

WIDTH, HEIGHT = 64, 40
POINT = st.tuples(st.floats(0, WIDTH - 0.01), st.floats(0, HEIGHT - 0.01))


def test_fixations_become_pixels() -> None:
    points = [[0.9, 0.9], [0.1, 0.1], [63.99, 39.99], [64, 40], [-3, 10]]
    marked = fixation_map(points, WIDTH, HEIGHT)
    assert sorted(map(tuple, np.argwhere(marked).tolist())) == [(0, 0), (10, 0), (39, 63)]
    assert fixation_map(points, WIDTH, HEIGHT, counts=True)[0, 0] == 2
    assert not fixation_map([], WIDTH, HEIGHT).any()


def test_a_blurred_fixation_is_a_gaussian() -> None:
    smooth = blurred(fixation_map([[100, 80]], 200, 160), sigma=9)
    assert smooth[80, 100] == pytest.approx(255 / (2 * math.pi * 81), rel=1e-3)
    assert smooth[80, 109] / smooth[80, 100] == pytest.approx(math.exp(-0.5), rel=1e-6)
    assert smooth.sum() == pytest.approx(255)
    assert smooth[80, 100 + 37] == 0  # cut off at 4 sigma


def test_flat_maps() -> None:
    flat, one = np.zeros((HEIGHT, WIDTH)), blurred(fixation_map([[9, 9]], WIDTH, HEIGHT))
    assert correlation(flat, flat) == pytest.approx(1)
    assert correlation(flat, one) == pytest.approx(0, abs=1e-8)
    assert nss(flat, fixation_map([[3, 3]], WIDTH, HEIGHT)) == 0
    assert math.isnan(nss(one, flat))


def test_nss_by_hand() -> None:
    """Values 0, 0, 0, 4: mean 1, standard deviation sqrt 3; the pixel of 4 lies sqrt 3 above."""
    saliency = np.array([[0.0, 0.0], [0.0, 4.0]])
    assert nss(saliency, np.array([[0.0, 0.0], [0.0, 1.0]])) == pytest.approx(math.sqrt(3))
    assert nss(saliency, np.array([[2.0, 0.0], [0.0, 1.0]])) == pytest.approx(math.sqrt(3) * (1 - 2 / 3) / 3)


@settings(max_examples=30)
@given(st.lists(POINT, min_size=1, max_size=4), st.lists(POINT, min_size=1, max_size=4), st.floats(0.1, 50))
def test_correlation_properties(one: list, other: list, scale: float) -> None:
    left, right = (blurred(fixation_map(points, WIDTH, HEIGHT), 3) for points in (one, other))
    assert correlation(left, left) == pytest.approx(1)
    assert correlation(left, right) == pytest.approx(correlation(right, left))
    assert -1 - 1e-9 <= correlation(left, right) <= 1 + 1e-9
    assert correlation(scale * left + 7, right) == pytest.approx(correlation(left, right), abs=1e-6)


def test_packs_by_hand() -> None:
    """The right pack scores 1, an empty one against a fixation 0, empty against empty 1."""
    here = [[20.0, 20.0]]
    result = score_packs([[here, [], []]], [[here, here, []]], WIDTH, HEIGHT)
    assert [samples[0] for samples in result.cc_samples] == pytest.approx([1, 0, 1], abs=1e-8)
    assert result.nss_people[0][0][0] > 3 and result.nss_people[1][0][0] == 0
    assert result.nss_people[2] == ((),)  # the person looked nowhere
    assert result.cc == pytest.approx(2 / 3, abs=1e-8)
    assert result.nss == pytest.approx(result.nss_people[0][0][0] / 2)


def test_sums_over_pairs_are_sums_over_the_canvas() -> None:
    """score_packs never draws a map; drawn ones give the same."""
    rng = np.random.default_rng(0)
    preds, humans = ([[rng.uniform(0, (WIDTH, HEIGHT), (k, 2)) for k in (0, 1, 3)] for _ in range(3)] for _ in "ab")
    result = score_packs(preds, humans, WIDTH, HEIGHT, sigma=4)
    for pack in range(3):
        marks = [fixation_map(human[pack], WIDTH, HEIGHT) for human in humans]
        target = blurred(np.mean(marks, axis=0), 4)
        maps = [blurred(fixation_map(pred[pack], WIDTH, HEIGHT), 4) for pred in preds]
        assert result.cc_samples[pack] == pytest.approx([correlation(one, target) for one in maps], abs=1e-9)
        for ours, marked in zip(result.nss_people[pack], marks, strict=True):
            assert ours == pytest.approx([nss(one, marked) for one in maps] if marked.any() else [], abs=1e-9)


def test_samples_that_end_early() -> None:
    """Two samples, one ends after the first pack: it is an empty pack, or left out as published."""
    here = [[20.0, 20.0]]
    ours = score_packs([[here, here], [here]], [[here, here]], WIDTH, HEIGHT)
    theirs = score_packs([[here, here], [here]], [[here, here]], WIDTH, HEIGHT, published=True)
    assert [len(samples) for samples in ours.cc_samples] == [2, 2]
    assert [len(samples) for samples in theirs.cc_samples] == [2, 1]
    assert ours.cc == pytest.approx(0.75) and theirs.cc == pytest.approx(1)
    nobody = score_packs([[here]], [[here, here]], WIDTH, HEIGHT, published=True)
    assert nobody.cc == pytest.approx(0.5)  # no sample came so far: an empty map


def test_the_mean_map_of_samples() -> None:
    """Two samples, each like one of two people: together they agree altogether, each alone by half of the map."""
    here, there = [[10.0, 10.0]], [[50.0, 30.0]]
    each = score_packs([[here], [there]], [[here], [there]], WIDTH, HEIGHT, sigma=2)
    pooled = score_packs([[here], [there]], [[here], [there]], WIDTH, HEIGHT, sigma=2, pooled=True)
    assert len(each.cc_samples[0]) == 2 and len(pooled.cc_samples[0]) == 1
    assert pooled.cc == pytest.approx(1) and each.cc == pytest.approx(1 / math.sqrt(2), abs=0.02)


def test_people_without_fixations() -> None:
    result = score_packs([[[], []]], [[[], []], [[], []]], WIDTH, HEIGHT)
    assert result.cc == pytest.approx(1) and math.isnan(result.nss)


def test_images_count_fixations() -> None:
    one, other = [[10.0, 10.0], [10.0, 10.0], [50.0, 30.0]], [[10.0, 10.0], [50.0, 30.0], [50.0, 30.0]]
    assert score_image([one], [one], WIDTH, HEIGHT)[0] == pytest.approx(1)
    assert score_image([one], [other], WIDTH, HEIGHT)[0] < 0.99
    assert score_image([one[:2], one[2:]], [one], WIDTH, HEIGHT)[0] == pytest.approx(1)  # pooled


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        correlation(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="0 samples and 1 people"):
        score_packs([], [[[]]], WIDTH, HEIGHT)
