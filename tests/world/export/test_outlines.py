"""Check that outlines rasterize back to their mask, pixel for pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sa2va.data.reasonseg import paint_outline
from sa2va.masks import polygons_to_mask
from sa2va.world.export.outlines import trace_outlines, trace_pixels
from sa2va.world.tasks.catalog import TASKS


@settings(max_examples=200, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_the_raster_of_the_outlines_is_the_mask(mask: np.ndarray) -> None:
    assert np.array_equal(polygons_to_mask(trace_outlines(mask), *mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_outlines_through_pixels_are_painted_as_the_mask(mask: np.ndarray) -> None:
    painted = [paint_outline(points, mask.shape) for points in trace_pixels(mask)]
    assert np.array_equal(np.any([np.zeros_like(mask), *painted], axis=0), mask)
    assert all(len(points) >= 3 for points in trace_pixels(mask))


def test_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:9] = True
    assert trace_outlines(mask) == [[3, 2, 9, 2, 9, 5, 3, 5]]


def test_a_ring_is_one_polygon_and_its_hole_is_left_out() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    (polygon,) = trace_outlines(mask)
    assert len(polygon) == 2 * (4 + 1 + 4 + 1 + 1)
    assert np.array_equal(polygons_to_mask([polygon], 5, 5), mask)


@pytest.mark.parametrize("index", range(3))
def test_drawn_objects_are_exact(index: int) -> None:
    for mask in TASKS["refseg"](0, "train", index).masks[:, 0]:
        assert np.array_equal(polygons_to_mask(trace_outlines(mask), *mask.shape), mask)
