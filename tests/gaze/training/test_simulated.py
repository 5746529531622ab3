"""Check the tensors of simulated gaze: words only rule objects out, fixation maps sum to 1."""

import numpy as np
import pytest
import torch

pytest.importorskip("sa2va.world")
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.maps import blurred, fixation_map
from sa2va.gaze.model.density import Grid
from sa2va.gaze.training.simulated import CROWD_SIGMA, DrawnGaze, _crowd, draw_gaze, draw_viewings, object_maps
from sa2va.world.tasks.items import SIDE

GRID = Grid(16)


@pytest.fixture(scope="module")
def gaze() -> DrawnGaze:
    return draw_gaze([draw_viewings(0, "train", index, 3) for index in range(3)], GRID)


def test_words_rule_out_and_never_add(gaze: DrawnGaze) -> None:
    grown = gaze.possible.flatten(2).sum(-1)
    assert (grown[:, 1:] <= grown[:, :-1] + 1e-3).all() and (grown[:, -1] < grown[:, 0]).any()
    assert (gaze.target <= gaze.possible[:, -1] + 1e-4).all() and (gaze.target.flatten(1).sum(1) > 0).all()


def test_packs_and_people_are_counted(gaze: DrawnGaze) -> None:
    assert len(gaze.events.facts) == 9
    counts = [len(draw_viewings(0, "train", index, 1)[0].case.expression.words) + 2 for index in range(3)]
    assert gaze.known.sum(1).tolist() == counts
    last = torch.where(gaze.events.valid, gaze.events.packs, 0).max(1).values.view(3, 3)
    assert (last < torch.tensor(counts)[:, None]).all()


def test_training_never_shows_a_held_out_pair() -> None:
    assert not any(draw_viewings(0, "train", index, 1)[0].case.heldout for index in range(40))
    assert any(draw_viewings(0, "held-out", index, 1)[0].case.heldout for index in range(40))


def test_where_people_look_is_blurred_as_the_metrics_do() -> None:
    points = np.array([(200.3, 100.7), (215.2, 90.1)])
    cells = _crowd([[points[:1], points[:0]], [points[1:], points[:0]]], GRID)
    drawn = blurred(fixation_map(points, *CANVAS), CROWD_SIGMA).reshape(20, 16, 32, 16).sum((1, 3)).ravel()
    assert np.abs(cells[0].numpy() - drawn / drawn.sum()).max() < 0.01
    assert float(cells[0].sum()) == pytest.approx(1) and not cells[1].any()


def test_objects_cover_their_cells() -> None:
    case = draw_viewings(0, "train", 0, 1)[0].case
    maps = object_maps(case, GRID)
    sizes = case.masks.sum((1, 2)) * (320 / SIDE) ** 2 / 16**2
    assert maps.flatten(1).sum(1).numpy() == pytest.approx(sizes, rel=0.05)
