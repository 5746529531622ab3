import math

import numpy as np
import pytest

from sa2va.gaze.metrics.likelihood import bits_per_fixation, center_bias, uniform_log_density
from sa2va.gaze.metrics.strings import pixel_indices


def test_twice_as_likely_is_one_bit() -> None:
    base = uniform_log_density(3, 512, 320)
    assert bits_per_fixation(base, base) == 0
    assert bits_per_fixation(base + math.log(2), base) == pytest.approx(1)
    assert bits_per_fixation(base - np.inf, base) == -math.inf


def test_a_quarter_of_the_canvas_is_two_bits() -> None:
    gain = bits_per_fixation(np.full(2, -math.log(200)), uniform_log_density(2, 40, 20))
    assert gain == pytest.approx(2)


def test_center_bias_is_a_density_and_knows_where_people_look() -> None:
    rng = np.random.default_rng(0)
    points = np.clip(rng.normal((256, 160), 30, (4000, 2)), 0, (511, 319))
    density = center_bias(points[:2000], 512, 320, sigma=8)
    assert density.shape == (320, 512) and density.sum() == pytest.approx(1) and density.min() > 0
    held_out = points[2000:]
    log_densities = np.log(density[pixel_indices(held_out, 512, 320)])
    gain = bits_per_fixation(log_densities, uniform_log_density(2000, 512, 320))
    # The entropy of the true Gaussian, ln(2 pi e 30^2), against that of the uniform density, ln(512 * 320).
    limit = (math.log(512 * 320) - math.log(2 * math.pi * math.e * 30**2)) / math.log(2)
    assert limit - 0.15 < gain < limit + 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bits_per_fixation([], []), "0 and 0"),
        (lambda: bits_per_fixation([0.0], [0.0, 1.0]), "1 and 2"),
        (lambda: bits_per_fixation([0.0], [-math.inf]), "finite for the baseline"),
        (lambda: bits_per_fixation([math.nan], [0.0]), "must be numbers"),
        (lambda: center_bias([], 8, 8), "no fixations"),
        (lambda: center_bias([[1, 1]], 8, 8, uniform_share=0), "uniform share 0"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
