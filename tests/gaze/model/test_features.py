"""What is believed in has a box that is finer than the cells, and points know how deep inside they lie."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.features import Belief

GRID = Grid(16)
SIDES = [(st.floats(0, size - 40), st.floats(32, 40 + size / 3)) for size in CANVAS]


def cover(box):
    """Share of each cell that a rectangle covers, as the mean over a cell of a sharp mask is."""
    rows, columns = GRID.shape
    edges = [torch.arange(count + 1) * GRID.cell for count in (columns, rows)]
    along = [
        (torch.minimum(edge[1:], torch.tensor(high)) - torch.maximum(edge[:-1], torch.tensor(low))).clamp(min=0)
        / GRID.cell
        for edge, low, high in zip(edges, box[:2], box[2:], strict=True)
    ]
    return along[1][:, None] * along[0]


@settings(deadline=None)
@given(*SIDES[0], *SIDES[1])
def test_the_box_of_a_rectangle_is_the_rectangle(left, width, top, height):
    right, bottom = min(left + width, CANVAS[0]), min(top + height, CANVAS[1])
    box = torch.tensor([left, top, right, bottom])
    found = Belief.of(cover(box.tolist()), GRID).box
    # Two cells wide at least, so that one is full; a sliver of less than EDGE of a cell is not seen.
    torch.testing.assert_close(found, box, atol=0.2 * GRID.cell + 0.1, rtol=0)


def test_depth_is_the_way_to_the_nearest_side():
    belief = Belief.of(cover((100.0, 64.0, 228.0, 160.0)), GRID)
    points = torch.tensor([[164.0, 112.0], [110.0, 112.0], [100.0, 112.0], [90.0, 112.0], [164.0, 172.0]])
    found = belief.each(lambda value: value.expand(5, *value.shape)).depth(points)
    assert found.tolist() == pytest.approx([48, 10, 0, -10, -12], abs=0.5)


def test_every_point_is_outside_a_belief_in_nothing():
    rows, columns = GRID.shape
    found = Belief.of(torch.zeros(rows, columns), GRID).each(lambda value: value.expand(9, *value.shape))
    points = torch.rand(9, 2) * torch.tensor([float(size) for size in CANVAS])
    assert torch.isfinite(found.box).all() and (found.depth(points) < 0).all()


@pytest.mark.parametrize("peak", [0.5, 0.8, 0.99])
def test_certainty_is_the_log_odds_of_the_strongest_belief(peak):
    maps = peak * cover((100.0, 64.0, 228.0, 160.0))
    found = Belief.of(maps, GRID)
    assert found.certainty().item() == pytest.approx(torch.tensor(peak).logit().item(), abs=1e-4)
    sure = Belief.of(maps / peak, GRID)
    torch.testing.assert_close(found.shares, sure.shares, atol=1e-4, rtol=0)  # which shares alone do not tell
    torch.testing.assert_close(found.box, sure.box)


def test_certainty_is_finite_for_all_maps():
    rows, columns = GRID.shape
    found = Belief.of(torch.stack([torch.zeros(rows, columns), torch.ones(rows, columns)]), GRID).certainty()
    assert torch.isfinite(found).all() and found[0] < found[1]
