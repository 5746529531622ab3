"""Check masks.py against pycocotools."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from sa2va import masks

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(mask=MASKS)
def test_rle_survives_json(mask: np.ndarray) -> None:
    rle = json.loads(json.dumps(masks.encode_rle(mask)))
    assert np.array_equal(masks.decode_rle(rle), mask)
    assert masks.area(rle) == mask.sum()


@given(mask=MASKS)
def test_run_lengths_are_those_of_coco(mask: np.ndarray) -> None:
    expected = coco.encode(np.asfortranarray(mask, np.uint8))
    assert masks.encode_rle(mask)["counts"] == expected["counts"].decode()
    assert np.array_equal(masks.decode_rle(expected), mask)
    flat = mask.ravel(order="F")
    edges = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1), len(flat)]
    runs = [0] * bool(flat[0]) + np.diff(edges).tolist()
    assert np.array_equal(masks.decode_rle({"size": list(mask.shape), "counts": runs}), mask)


def test_long_runs_and_empty_sizes() -> None:
    mask = np.zeros((2000, 1500), bool)
    mask[700:, 400:1200] = True
    assert np.array_equal(masks.decode_rle(masks.encode_rle(mask)), mask)
    empty = np.zeros((0, 5), bool)
    assert masks.decode_rle(masks.encode_rle(empty)).shape == (0, 5)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 2]}, "counts"),
        ({"size": [2], "counts": "4"}, "size"),
        ({"size": [4, 4], "counts": "4"}, "16"),
        ({"size": [2, 2], "counts": "5"}, "4"),
        ({"size": [2, 2], "counts": [-1, 5]}, "4"),
        ({"size": [2, 2], "counts": "o"}, "cut off"),
        ({"size": [2, 2], "counts": ""}, "cut off"),
        ({"size": [2, 2], "counts": "é"}, "RLE"),
        ({"size": [2, 2], "counts": "oooooooooooooo0"}, "longer than any picture"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "pixels"),
        ({"size": [-1, -4], "counts": [4]}, "pixels"),
        ({"size": [2, 2], "counts": None}, "RLE"),
    ],
)
def test_damaged_rle_is_one_line(rle: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        masks.decode_rle(rle)
    assert "\n" not in str(caught.value)


def test_encode_rejects_a_stack() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 3\)"):
        masks.encode_rle(np.zeros((2, 3, 3), bool))


@given(mask=MASKS)
def test_bbox_is_tight(mask: np.ndarray) -> None:
    box = masks.bbox(mask)
    if box is None:
        assert not mask.any()
        return
    x0, y0, x1, y1 = (int(side) for side in box)
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


POINTS = st.lists(st.tuples(st.floats(-8, 40, width=32), st.floats(-8, 40, width=32)), min_size=3, max_size=9)


@given(polygons=st.lists(POINTS, min_size=1, max_size=3), height=st.integers(20, 30), width=st.integers(20, 30))
def test_polygons_are_those_of_coco(polygons: list[list[tuple[float, float]]], height: int, width: int) -> None:
    expected = np.zeros((height, width), bool)
    for points in polygons:
        flat = [float(number) for point in points for number in point]
        expected |= masks.decode_rle(coco.frPyObjects([flat], height, width)[0])
    assert np.array_equal(masks.polygons_to_mask(polygons, height, width), expected)


def test_polygons_unite() -> None:
    square = [2, 3, 6, 3, 6, 8, 2, 8]
    overlapping = np.array([[4, 3], [9, 3], [9, 8], [4, 8]])
    mask = masks.polygons_to_mask([square, overlapping], 10, 12)
    expected = np.zeros((10, 12), bool)
    expected[3:8, 2:9] = True
    assert np.array_equal(mask, expected)
    assert not masks.polygons_to_mask([], 10, 12).any()


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([1, 1, 5, 5], "three"),
        ([1, 1, 5, 5, 2, 2, 7], "three"),
        ([0, 0, 1e9, 0, 1, 1], "20x10"),
        ([0] * 5 + [np.nan], "px"),
    ],
)
def test_bad_polygons(polygon: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks.polygons_to_mask([polygon], 10, 20)


def test_resize_mask_keeps_centers() -> None:
    mask = np.array([[1, 0], [0, 1]], bool)
    big = masks.resize_mask(mask, 4, 6)
    assert np.array_equal(big, np.kron(mask, np.ones((2, 3), bool)))
    assert np.array_equal(masks.resize_mask(big, 2, 2), mask)
    stack = np.random.default_rng(0).random((2, 3, 7, 9)) > 0.5
    assert np.array_equal(masks.resize_mask(stack, 7, 9), stack)
    assert masks.resize_mask(stack, 20, 4).shape == (2, 3, 20, 4)


def test_regions_become_masks() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:20, 30:50] = True
    assert np.array_equal(masks.region_to_mask(mask, 60, 80), mask)
    assert np.array_equal(masks.region_to_mask(mask.astype(np.uint8) * 255, 60, 80), mask)
    assert np.array_equal(masks.region_to_mask(masks.bbox(mask), 60, 80), mask)
    assert masks.bbox(masks.region_to_mask((-5, 2.5, 200, 7), 60, 80)) == (0, 2, 80, 7)


@given(x=st.floats(0, 80), y=st.floats(0, 60))
def test_a_point_lies_in_its_disk(x: float, y: float) -> None:
    disk = masks.region_to_mask((x, y), 60, 80)
    assert disk[min(int(y), 59), min(int(x), 79)]
    assert disk.sum() < 0.01 * disk.size


def test_a_scribble_is_one_thick_line() -> None:
    points = np.array([[10, 10], [60, 10], [60, 50], [500, 50]])
    mask = masks.region_to_mask(points, 60, 80)
    assert mask[10, 10:60].all() and mask[10:50, 60].all() and mask[50, 60:].all()
    assert mask.sum() < 0.15 * mask.size
    assert masks.region_to_mask(points[:1], 60, 80).any()


BOXES = [(2, 3, 20, 30), (10, 10, 60, 50)]
DRAWN = np.stack([masks.region_to_mask(box, 60, 80) for box in BOXES])


@pytest.mark.parametrize(
    ("regions", "alike"),
    [
        (None, []),
        ([], []),
        (np.zeros((0, 4)), []),
        (BOXES, BOXES),
        (tuple(BOXES), BOXES),
        (np.array(BOXES), BOXES),
        (np.array(BOXES, np.uint8), BOXES),
        (np.array(BOXES[:1], np.float32), BOXES[:1]),
        (torch.tensor(BOXES), BOXES),
        (np.array(BOXES[0]), BOXES[:1]),
        (BOXES[0], BOXES[:1]),
        ((20, 30), [(20, 30)]),
        (np.array([(20, 30), (70, 50), (1, 2)]), [(20, 30), (70, 50), (1, 2)]),
        (np.array([[(20, 30), (70, 50), (1, 2)]]), [[(20, 30), (70, 50), (1, 2)]]),
        (DRAWN, BOXES),
        (DRAWN[0], BOXES[:1]),
        (255 * DRAWN.astype(np.uint8), BOXES),
        (list(DRAWN), BOXES),
        ([DRAWN[0], (20, 30)], [BOXES[0], (20, 30)]),
    ],
)
def test_regions_come_as_a_list_or_as_an_array(regions: Any, alike: list[Any]) -> None:
    found = [masks.region_to_mask(one, 60, 80) for one in masks.split_regions(regions, 60, 80)]
    wanted = [masks.region_to_mask(one, 60, 80) for one in alike]
    assert len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("left", "expected a list or an array, got str"),
        (5, "expected a list or an array, got int"),
        ({"box": BOXES[0]}, "expected a list or an array, got dict"),
        ((1, 2, 3), r"int64 \(3,\); expected boxes"),
        (DRAWN.transpose(0, 2, 1), r"bool \(2, 80, 60\); .*own size \(60, 80\)"),
        (DRAWN[0].astype(float), r"float64 \(60, 80\); .*bool or uint8"),
        (np.zeros((5, 3)), r"\(5, 3\)"),
        (np.array([[1, float("nan")]]), "finite"),
        (np.array(["a", "b"]), "numbers"),
    ],
)
def test_regions_of_no_plain_meaning_are_one_line(regions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        masks.split_regions(regions, 60, 80)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((5, 5, 5, 9), "x0 < x1"),
        ((9, 5, 5, 9), "x0 < x1"),
        ((100, 5, 120, 9), "outside"),
        ((80, 5, 120, 9), "outside"),
        ((-9, 5, 0, 9), "outside"),
        ((100, 5), "outside"),
        ((5, -1), "outside"),
        ([(100, 5), (120, 9)], "outside"),
        ((1, 2, 3), "shape"),
        (np.zeros((0, 2)), "shape"),
        ((1, float("nan")), "finite"),
        (("a", "b"), "numbers"),
        ([(1, 2), (3,)], "numbers"),
        (np.zeros((60, 80), bool), "no pixel"),
        (np.ones((80, 60), bool), r"\(80, 60\)"),
        ("left", "numbers"),
    ],
)
def test_bad_regions_are_one_line(region: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        masks.region_to_mask(region, 60, 80)
    assert "\n" not in str(caught.value)
