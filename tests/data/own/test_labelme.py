"""Check the reader of own data of LabelMe."""

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.own_formats import BOXES_OF, write_labelme
from support.stored_layouts import SIZE, rectangle_mask

from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig


def to_base64(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_polygons_and_descriptions(tmp_path: Path) -> None:
    folder = write_labelme(tmp_path, shape={"description": "the sleepy one"})
    dataset = build(folder, split="all")
    assert [record.item.name for record in dataset.records] == ["photo_0.png", "photo_1.png"]
    wanted = [rectangle_mask(*box) for box in BOXES_OF[0]]
    assert np.array_equal(dataset.records[0].tracks.masks([0, 1, 2], [0])[:, 0], wanted)
    texts = {one.text: one.objects for one in dataset.records[0].expressions}
    assert texts["the sleepy one"] == texts["the left cat"] == (0,) and texts["the cats"] == (0, 1)
    assert not dataset.records[0].absent  # nobody says what was looked for


def test_a_mask_is_pasted_at_its_corner(tmp_path: Path) -> None:
    shape = {"shape_type": "mask", "points": [[2, 3], [9, 11]], "mask": to_base64(np.ones((9, 8), bool))}
    dataset = build(write_labelme(tmp_path, shape=shape), split="all")
    assert np.array_equal(dataset.records[0].tracks.masks([0], [0])[0, 0], rectangle_mask(2, 3, 10, 12))


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    parts = [
        {"label": "cat", "group_id": 4, "points": [[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]], "shape_type": "polygon"}
        for x in (2, 20)
    ]
    dataset = build(write_labelme(tmp_path, shapes=parts), split="all")
    (cat,) = dataset.records[0].expressions
    assert cat.text == "the cat"
    mask = dataset.records[0].tracks.masks(cat.objects, [0])[0, 0]
    assert np.array_equal(mask, rectangle_mask(2, 2, 6, 6) | rectangle_mask(20, 2, 24, 6))


def test_folders_train_and_val_are_the_split(tmp_path: Path) -> None:
    write_labelme(tmp_path / "train")
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    names = [record.item.name for record in build(tmp_path, split="val").records]
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    assert names == ["val/photo_0.png", "val/photo_1.png"] and len(build(tmp_path, split="all")) == 4


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"points": [[1, 1], [2, 2]]}, "2 points"),
        ({"points": [[1], [2, 2], [3, 3]]}, "expected pairs"),
        ({"points": [1, 2, 3, 4, 5, 6]}, "expected pairs"),
        ({"label": " "}, "label is empty"),
        ({"shape_type": "rectangle"}, "it is a rectangle, not a mask"),
        ({"group_id": [1]}, "group_id"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "&&"}, "not a PNG"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "aGVsbG8="}, "not a PNG"),
        ({"shape_type": "mask", "points": [[30, 0], [3, 3]], "mask": to_base64(np.ones((9, 30), bool))}, "leaves the"),
        ({"shape_type": "mask", "points": [[0, 0]], "mask": ""}, "two corners"),
    ],
)
def test_a_damaged_shape_is_refused(tmp_path: Path, shape: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=rf"photo_0\.json: shape 0: .*{reason}") as caught:
        build(write_labelme(tmp_path, shape=shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"imagePath": "gone.png"}, "there is no gone.png"),
        ({"imageHeight": 0}, "at least 1"),
        ({"shapes": {}}, "expected a list"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=rf"photo_0\.json.*{reason}"):
        build(write_labelme(tmp_path, **fields))


def test_rectangles_are_skipped_on_request(tmp_path: Path) -> None:
    folder = write_labelme(tmp_path, shape={"shape_type": "rectangle", "points": [[1, 1], [SIZE[1], 9]]})
    dataset = build(folder, split="all", own=OwnConfig(unmasked="skip"))
    assert {one.text for one in dataset.records[0].expressions} == {"the dog"}


def test_an_older_file_without_sizes_has_that_of_its_picture(tmp_path: Path) -> None:
    dataset = build(write_labelme(tmp_path, imageHeight=None, imageWidth=None), split="all")
    assert np.array_equal(dataset.records[0].tracks.masks([0], [0])[0, 0], rectangle_mask(*BOXES_OF[0][0]))
