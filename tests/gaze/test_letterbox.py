import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.letterbox import CANVAS, SCREEN, Letterbox
from sa2va.gaze.scanpath import Fixation, Scanpath

SIDE = st.integers(1, 4000)
POINTS = st.lists(st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000)), max_size=5)


def test_by_hand() -> None:
    """640 x 480 in 1680 x 1050: scale 1050 / 480 = 2.1875, 1400 px wide, bars of 140 px left and right."""
    box = Letterbox(image_size=(640, 480), canvas_size=SCREEN)
    assert box.scale == 2.1875 and box.offset.tolist() == [140, 0]
    assert box.to_canvas([[0, 0], [640, 480], [320, 240]]).tolist() == [[140, 0], [1540, 1050], [840, 525]]
    assert box.to_image([[140, 0], [0, 525]]).tolist() == [[0, 0], [-64, 240]]


def test_screen_and_canvas_have_one_shape() -> None:
    box = Letterbox(image_size=SCREEN, canvas_size=CANVAS)
    assert box.scale == 512 / 1680 and box.offset.tolist() == [0, 0]


@given(SIDE, SIDE, SIDE, SIDE, POINTS)
def test_there_and_back(width: int, height: int, canvas_width: int, canvas_height: int, points: list) -> None:
    box = Letterbox(image_size=(width, height), canvas_size=(canvas_width, canvas_height))
    back = box.to_image(box.to_canvas(points))
    assert back.shape == (len(points), 2)
    assert np.allclose(back, np.reshape(points, (-1, 2)), atol=1e-6 / box.scale)


@given(SIDE, SIDE)
def test_the_picture_fills_the_canvas_one_way_and_is_centered(width: int, height: int) -> None:
    first, last = Letterbox(image_size=(width, height)).to_canvas([[0, 0], [width, height]])
    assert np.allclose(first + last, CANVAS)
    assert np.isclose(first.min(), 0, atol=1e-9)


def test_scanpaths_move_with_their_size() -> None:
    box = Letterbox(image_size=(640, 480), canvas_size=SCREEN)
    path = Scanpath.from_packs([Fixation(320, 240, 5, 100)], [1], ["dog"], width=640, height=480)
    seen = box.scanpath_to_canvas(path)
    assert (seen.width, seen.height) == SCREEN and seen.points.tolist() == [[840, 525]]
    assert box.scanpath_to_image(seen) == path


def test_a_scanpath_of_another_size() -> None:
    box = Letterbox(image_size=(640, 480))
    path = Scanpath.from_packs([], [], [], width=100, height=100)
    with pytest.raises(ValueError, match="over 100 x 100 px, expected 640 x 480"):
        box.scanpath_to_canvas(path)
    with pytest.raises(ValueError, match="over 100 x 100 px, expected 512 x 320"):
        box.scanpath_to_image(path)


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_bad_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 px"):
        Letterbox(image_size=size)
