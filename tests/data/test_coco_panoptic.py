"""Check the reader of COCO panoptic: names of things and stuff, masks from PNGs, crowds, damaged records."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.stored_layouts import SIZE, rectangle_mask, write_json, write_picture

from sa2va.data.catalog import build_dataset

FILE = "annotations/panoptic_train2017.json"
IDS = (7, 300, 70000)  # one in each byte
AREAS = [rectangle_mask(2, 3, 10, 12), rectangle_mask(14, 5, 30, 20), rectangle_mask(0, 21, 32, 24)]
CATEGORIES = {1: "dog", 2: "wall-brick", 3: "sky-other-merged", 4: "person"}
# Categories of the three segments, and whether the first one is a crowd.
PICTURES = [((1, 1, 2), 0), ((1, 3, 4), 1), ((2, 3, 4), 0)]


def write_panoptic(folder: Path) -> Path:
    images, annotations = [], []
    for number, (categories, is_crowd) in enumerate(PICTURES):
        name = f"{number:012d}"
        write_picture(folder / "train2017" / f"{name}.jpg", number)
        ids = sum(value * area for value, area in zip(IDS, AREAS, strict=True))
        png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        (folder / "annotations/panoptic_train2017").mkdir(parents=True, exist_ok=True)
        Image.fromarray(png).save(folder / "annotations/panoptic_train2017" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        segments = [
            {"id": segment, "category_id": category, "iscrowd": is_crowd if place == 0 else 0}
            for place, (segment, category) in enumerate(zip(IDS, categories, strict=True))
        ]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    categories = [{"id": number, "name": name, "isthing": number in (1, 4)} for number, name in CATEGORIES.items()]
    write_json(folder / FILE, {"images": images, "annotations": annotations, "categories": categories})
    return folder


def test_every_category_is_asked_for_by_its_name(tmp_path: Path) -> None:
    dataset = build_dataset("coco_panoptic", write_panoptic(tmp_path))
    named = [{one.text: one.objects for one in record.expressions} for record in dataset.records]
    assert named[0] == {"the dogs": (0, 1), "the brick wall": (2,)}
    assert named[1] == {"the sky": (1,), "the person": (2,)}  # the dogs are a crowd
    assert named[2] == {"the brick wall": (0,), "the sky": (1,), "the person": (2,)}


def test_masks_are_those_of_the_png(tmp_path: Path) -> None:
    for sample in build_dataset("coco_panoptic", write_panoptic(tmp_path)):
        assert np.array_equal(sample.masks[:, 0], AREAS)
        for turn in sample.turns:
            assert len(turn.spans[0].objects) == 1 + ("the dogs" in turn.question)


@pytest.mark.parametrize(
    "kind, change, reason",
    [
        ("annotations", {"image_id": 9}, "annotation 0: there is no image 9"),
        ("annotations", {"file_name": "gone.png"}, r"annotation 0: there is no gone\.png in .*panoptic_train2017"),
        ("annotations", {"segments_info": [{"id": 7, "category_id": 8}]}, "annotation 0, segment 0: there is no cat"),
        ("annotations", {"segments_info": [{"id": 7, "category_id": 1}] * 2}, "annotation 0, segment 1: id 7 is also"),
        ("images", {"file_name": "gone.jpg"}, r"image 0: there is no gone\.jpg in .*train2017"),
        ("images", {"height": 0}, "image 0: height and width are 0 and 32"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(tmp_path: Path, kind: str, change: dict, reason: str) -> None:
    file = write_panoptic(tmp_path) / FILE
    content = json.loads(file.read_text())
    content[kind][0] |= change
    write_json(file, content)
    with pytest.raises(ValueError, match=rf"panoptic_train2017\.json: {reason}"):
        build_dataset("coco_panoptic", tmp_path)


def test_a_png_of_another_size_is_named(tmp_path: Path) -> None:
    folder = write_panoptic(tmp_path)
    Image.new("RGB", (9, 9)).save(folder / "annotations/panoptic_train2017/000000000000.png")
    with pytest.raises(ValueError, match=r"000000000000\.png: the picture is 9x9, its annotation says 32x24"):
        _ = build_dataset("coco_panoptic", folder)[0].masks
