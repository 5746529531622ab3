"""Check the reader of own data in the YOLO segmentation layout."""

from pathlib import Path

import numpy as np
import pytest
from support.own_formats import BOXES_OF, write_pictures, write_yolo
from support.stored_layouts import rectangle_mask

from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig


def test_polygons_are_shares_of_the_picture(tmp_path: Path) -> None:
    dataset = build(write_yolo(tmp_path), split="all")
    assert [record.item.name for record in dataset.records] == [f"images/train/photo_{i}.png" for i in range(3)]
    wanted = [rectangle_mask(*box) for box in BOXES_OF[0]]
    assert np.array_equal(dataset.records[0].tracks.masks([0, 1, 2], [0])[:, 0], wanted)
    texts = {one.text: one.objects for one in dataset.records[0].expressions}
    assert texts["the cats"] == (0, 1) and texts["the right cat"] == (1,) and texts["the dog"] == (2,)
    assert not dataset.records[2].expressions and len(dataset.records[2].absent) == 3


def test_val_of_the_description_is_the_split(tmp_path: Path) -> None:
    write_yolo(tmp_path, description="train: ../images/train\nval: list.txt\nnames: [cat, dog, light]\n")
    (tmp_path / "list.txt").write_text("./images/train/photo_1.png\n")
    assert [len(build(tmp_path, split=part)) for part in ("train", "val", "all")] == [3, 1, 4]


def test_labels_may_lie_beside_the_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos")
    (tmp_path / "photos/photo_0.txt").write_text("0 0 0 0.5 0 0.5 0.5")
    (tmp_path / "d.yml").write_text("train: photos\nnames: [cat]\n")
    assert len(build(tmp_path / "d.yml", split="all")) == 1  # one class: pictures without it are no examples


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("0 0.1 0.1 0.2 0.2", "line 1: it is a box"),
        ("0 0.1 0.1 0.2 0.2 0.3", "line 1: it has 5 numbers"),
        ("\n9 0.1 0.1 0.2 0.2 0.3 0.3", "line 2: class 9 has no name"),
        ("0 10 10 20 20 30 30", "line 1: a coordinate is 30; expected shares from 0 to 1"),
        ("0 0.1 0.1 nan 0.2 0.3 0.3", "line 1: a coordinate is nan"),
        ("cat 0.1 0.1 0.2 0.2 0.3 0.3", "line 1: it is 'cat"),
    ],
)
def test_a_damaged_line_is_refused(tmp_path: Path, lines: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"photo_0\.txt: ({reason})") as caught:
        build(write_yolo(tmp_path, lines=lines))
    assert "\n" not in str(caught.value)


def test_boxes_are_skipped_on_request(tmp_path: Path) -> None:
    dataset = build(write_yolo(tmp_path, lines="0 .5 .5 .1 .1"), split="all", own=OwnConfig(unmasked="skip"))
    assert dataset.annotations.notes == {"objects with a box and no mask": 1} and len(dataset) == 2


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("train: gone\nnames: [cat]\n", "there is no folder .*gone"),
        ("train: images\nnames: 3\n", "names is 3"),
        ("train: [1]\nnames: [cat]\n", "train is 1"),
        ("train: images\nnames: !!python/object/apply:os.system [touch hacked]\n", "not valid YAML"),
        ("train: labels\nnames: [cat]\n", "there is no picture in labels"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, description: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.yaml: .*{reason}") as caught:
        build(write_yolo(tmp_path, description=description))
    assert "\n" not in str(caught.value) and not Path("hacked").exists()


def test_pictures_without_any_label_file_are_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "polygons")
    with pytest.raises(ValueError, match="none of its 3 pictures has a label file such as .*labels/train/photo_2.txt"):
        build(tmp_path)
