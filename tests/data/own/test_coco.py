"""Check the reader of own data in COCO JSON."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.own_formats import coco_content, write_coco, write_pictures
from support.stored_layouts import SIZE, rectangle, rectangle_mask, write_json

from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig
from sa2va.masks import encode_rle

SEED = 1  # holds out a picture with objects
CAT = rectangle_mask(2, 3, 10, 12)
RUNS = [int(run) for run in np.diff(np.flatnonzero(np.diff([~CAT.T.ravel()[0], *CAT.T.ravel(), 2])))]


def first_mask(folder: Path) -> np.ndarray:
    return build(folder, split="all")[0].tracks.masks([0], [0])[0, 0]


@pytest.mark.parametrize(
    "segmentation",
    [
        [rectangle(2, 3, 10, 12)],
        [rectangle(2, 3, 8, 12), rectangle(5, 3, 10, 12)],  # overlapping parts are united
        encode_rle(CAT),
        {"size": list(SIZE), "counts": RUNS},
        [encode_rle(rectangle_mask(2, 3, 10, 6)), encode_rle(rectangle_mask(2, 6, 10, 12))],
    ],
    ids=["polygon", "polygons", "rle", "uncompressed rle", "list of rle"],
)
def test_every_kind_of_segmentation_gives_the_same_binary_mask(tmp_path: Path, segmentation: Any) -> None:
    mask = first_mask(write_coco(tmp_path, segmentation=segmentation))
    assert mask.dtype == bool and np.array_equal(mask, CAT)


def test_annotations_with_an_expression_are_asked_for_by_it(tmp_path: Path) -> None:
    dataset = build(write_coco(tmp_path, caption=["the striped cat", "a  sleeping cat."]), split="all")
    texts = {one.text: one.objects for one in dataset.records[0].expressions}
    assert texts["the striped cat"] == texts["a sleeping cat."] == (0,)
    assert texts["the cats"] == (0, 1) and texts["the left cat"] == (0,) and texts["the dog"] == (2,)


def test_a_group_of_categories_is_not_called_absent(tmp_path: Path) -> None:
    content = coco_content()
    for one in content["categories"]:
        one["supercategory"] = "animals" if one["name"] != "traffic_light" else one["name"]
    content["categories"].append({"id": 9, "name": "animals", "supercategory": "none"})  # as Roboflow writes it
    write_json(write_coco(tmp_path) / "labels.json", content)
    absent = {one.text for record in build(tmp_path, split="all").records for one in record.absent}
    assert absent == {"the cat", "the dog", "the traffic light"}


@pytest.mark.parametrize(
    "size, orientation, reason",
    [((48, 64), None, "photo_0.png is 32x24, and it is annotated as 64x48; fetch the original"),
     (SIZE, 6, "photo_0.png is 24x32 upright, and it was annotated lying; remove its EXIF orientation")],
)  # fmt: skip
def test_a_picture_of_another_size_is_refused_before_training(
    tmp_path: Path, size: tuple[int, int], orientation: int | None, reason: str
) -> None:
    content = coco_content()
    content["images"][0] |= {"height": size[0], "width": size[1]}
    write_json(write_coco(tmp_path) / "labels.json", content)
    if orientation:
        path = tmp_path / "images/photo_0.png"
        exif = Image.Exif()
        exif[0x112] = orientation
        with Image.open(path) as picture:
            picture.save(path, exif=exif)
    with pytest.raises(ValueError, match=f"labels.json: image 0: {reason}"):
        build(tmp_path, split="all")


def test_a_crowd_hides_how_many_there_are(tmp_path: Path) -> None:
    dataset = build(write_coco(tmp_path, iscrowd=1), split="all")
    assert {one.text for one in dataset.records[0].expressions} == {"the dog"}


def test_objects_of_a_category_that_is_not_exhaustive_are_not_named(tmp_path: Path) -> None:
    content = coco_content()
    content["images"][0] |= {"neg_category_ids": [3], "not_exhaustive_category_ids": [1]}
    write_json(write_coco(tmp_path) / "labels.json", content)
    record = build(tmp_path, split="all").records[0]
    assert {one.text for one in record.expressions} == {"the dog"}
    assert {one.text for one in record.absent} == {"the traffic light"}


@pytest.mark.parametrize("folder", ["", "images", "data", "train", "images/train", "../images/train"])
def test_pictures_are_found_in_the_usual_places(tmp_path: Path, folder: str) -> None:
    base = tmp_path / "annotations"
    write_json(base / "instances_train.json", coco_content())
    write_json(base / "captions_train.json", coco_content())
    write_pictures(base / folder)
    assert len(build(tmp_path, split="all")) == 3


def test_train_and_val_files_are_the_split(tmp_path: Path) -> None:
    write_coco(tmp_path)
    content = coco_content()
    (tmp_path / "labels.json").rename(tmp_path / "train.json")
    content["images"], content["annotations"] = content["images"][1:2], content["annotations"][3:]
    write_json(tmp_path / "val.json", content)
    assert [len(build(tmp_path, split=part)) for part in ("train", "val", "all")] == [3, 1, 4]


def test_one_file_is_split_by_a_seed(tmp_path: Path) -> None:
    write_coco(tmp_path)
    names = [
        [record.item.name for record in build(tmp_path, split=part, own=OwnConfig(held_out=0.34, seed=SEED)).records]
        for part in ("train", "val", "all")
    ]
    assert len(names[0]) == 2 and len(names[1]) == 1 and sorted(names[0] + names[1]) == names[2]


DAMAGED = [
    ({"segmentation": [[1, 2, 3]]}, "annotation 0", "3 points"),
    ({"segmentation": [[0, 0, 1e9, 0, 1, 1]]}, "annotation 0", "do not belong"),
    ({"segmentation": {"size": [2, 2], "counts": [4]}}, "annotation 0", "expected the picture's size"),
    ({"segmentation": {"size": list(SIZE), "counts": "1"}}, "annotation 0", "run"),
    ({"segmentation": []}, "annotation 0", "unmasked=skip"),
    ({"segmentation": "cat"}, "annotation 0", "polygons or run lengths"),
    ({"category_id": 9}, "annotation 0", "no category has it"),
    ({"image_id": 77}, "annotation 0", "no image has it"),
    ({"id": 1}, "annotation 1", "also that of annotation 0"),
    ({"caption": 3}, "annotation 0", "text"),
]


@pytest.mark.parametrize(("changes", "place", "reason"), DAMAGED)
def test_a_damaged_annotation_is_refused_by_file_record_and_reason(
    tmp_path: Path, changes: dict[str, Any], place: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=rf"labels\.json: {place}: .*{reason}") as caught:
        build(write_coco(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"file_name": "gone.png"}, "there is no gone.png"),
        ({"file_name": "../../etc/passwd"}, "passwd"),
        ({"height": 0}, "at least 1 px"),
        ({"width": "32"}, "whole number"),
    ],
)
def test_a_damaged_image_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    content = coco_content()
    content["images"][0] |= changes
    write_json(write_coco(tmp_path) / "labels.json", content)
    with pytest.raises(ValueError, match=rf"labels\.json: image 0: .*{reason}"):
        build(tmp_path)


def test_boxes_without_a_mask_still_make_a_name_ambiguous(tmp_path: Path) -> None:
    write_coco(tmp_path, segmentation=[])
    dataset = build(tmp_path, split="all", own=OwnConfig(unmasked="skip"))
    assert {one.text for one in dataset.records[0].expressions} == {"the dog"}
    assert dataset.annotations.notes == {"objects with a box and no mask": 1}
