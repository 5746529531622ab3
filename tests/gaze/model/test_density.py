"""Densities of places and times: they sum to 1, and draws follow them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.density import Grid, GridDensity, LogNormalMixture


def draw_density(seed: int, cell: int = 32) -> GridDensity:
    grid = Grid(cell)
    generator = torch.Generator().manual_seed(seed)
    return GridDensity.from_logits(torch.randn(grid.num_cells, generator=generator) * 2, grid)


def at(density: GridDensity, points: torch.Tensor) -> torch.Tensor:
    """Density at many points (K, 2), per px^2."""
    return GridDensity(density.log_mass.expand(len(points), -1), density.grid).log_prob(points).exp()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), cell=st.sampled_from([16, 32, 64]))
def test_a_density_sums_to_1_over_the_canvas(seed: int, cell: int) -> None:
    density = draw_density(seed, cell)
    # Between the middles of cells it is a product of lines, so that the middles of small squares sum it exactly.
    y, x = torch.meshgrid(torch.arange(0.5, CANVAS[1]), torch.arange(0.5, CANVAS[0]), indexing="ij")
    assert float(at(density, torch.stack([x, y], -1).reshape(-1, 2)).sum()) == pytest.approx(1, abs=1e-4)


def test_draws_follow_the_density_inside_cells_too() -> None:
    density = draw_density(3, 64)
    points = density.draw(torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0)).double())
    assert ((points >= 0) & (points <= torch.tensor(CANVAS))).all()
    counts = torch.histogramdd(points, bins=[16, 10], range=[0, CANVAS[0], 0, CANVAS[1]]).hist / len(points)
    y, x = torch.meshgrid(torch.arange(2.0, CANVAS[1], 4), torch.arange(2.0, CANVAS[0], 4), indexing="ij")
    exact = at(density, torch.stack([x, y], -1).reshape(-1, 2)).view(10, 8, 16, 8).sum((1, 3)).T * 16
    assert float((counts - exact).abs().max()) < 0.004
    # Mean log density at draws is the negative entropy on both roads.
    assert float(at(density, points).log().mean()) == pytest.approx(
        float((exact * (exact / 1024).log()).sum()), abs=0.1
    )


def test_mass_on_a_region_and_the_rest_of_it() -> None:
    density = draw_density(1)
    cover = torch.zeros(density.grid.num_cells)
    cover[:20] = 1
    assert float(density.log_mass_on(cover).exp()) == pytest.approx(float(density.log_mass[:20].exp().sum()), rel=1e-4)
    assert float(density.restricted(cover).log_mass[20:].exp().sum()) < 1e-5
    assert int(density.restricted(cover).log_mass.argmax()) < 20


def test_a_grid_that_does_not_tile_the_canvas_is_refused() -> None:
    with pytest.raises(ValueError, match="cells of 48 px do not tile 512 x 320 px"):
        Grid(48)


def test_a_mixture_of_one_is_the_log_normal_law() -> None:
    law = LogNormalMixture(torch.zeros(1), torch.tensor([5.2]), torch.tensor([0.6]))
    known = stats.lognorm(s=0.6, scale=math.exp(5.2))
    for time in (40.0, 180.0, 900.0):
        assert float(law.log_prob(torch.tensor(time))) == pytest.approx(known.logpdf(time), abs=1e-4)
        assert float(law.cdf(torch.tensor(time))) == pytest.approx(known.cdf(time), abs=1e-4)
    assert float(law.mode()) == pytest.approx(math.exp(5.2), rel=1e-4)


def test_draws_of_times_follow_the_mixture() -> None:
    law = LogNormalMixture.from_raw(torch.tensor([0.5, -0.5, 4.0, 6.0, 0.0, -1.0]).expand(20_000, 6))
    times = law.draw(torch.rand(20_000, 2, generator=torch.Generator().manual_seed(1)))
    for limit in (40.0, 100.0, 300.0):
        assert float((times < limit).float().mean()) == pytest.approx(float(law.cdf(torch.tensor(limit))[0]), abs=0.015)
