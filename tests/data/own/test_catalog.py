"""Check that the format of own data is recognized, or refused with what was found."""

from pathlib import Path

import pytest
from support.own_formats import (
    cvat_images,
    write_clips,
    write_coco,
    write_cvat,
    write_labelme,
    write_pictures,
    write_voc,
    write_yolo,
)
from support.stored_layouts import write_json
from support.stored_pictures import write_own_list

from sa2va.data.catalog import build_dataset
from sa2va.data.own.catalog import FORMATS, detect
from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig
from sa2va.data.stored import DamagedRecords


def write_cvat_images(folder: Path) -> Path:
    write_pictures(folder / "images")
    return write_cvat(folder, cvat_images())


def write_named_clips(folder: Path) -> Path:
    write_clips(folder / "JPEGImages", folder / "Annotations")
    write_json(folder / "objects.json", {name: {"1": "cat", "2": "dog"} for name in ("walk", "run")})
    return folder


WRITERS = {
    "coco": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "cvat": write_cvat_images,
    "sentences": write_own_list,
    "mask-pictures": write_voc,
    "mask-clips": write_named_clips,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_is_recognized_and_gives_the_same_objects(tmp_path: Path, name: str) -> None:
    assert set(WRITERS) == set(FORMATS)
    folder = WRITERS[name](tmp_path)
    assert detect(folder) == name
    dataset = build_dataset("own", folder, split="all")
    asked = {one.text for record in dataset.records for one in record.expressions}
    assert ({"the left box", "box"} if name == "sentences" else {"the dog"}) <= asked
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.masks.shape[1:] == sample.frames.shape[:3] and sample.turns
        assert dataset.draw(index).turns == sample.turns and dataset.extent(index).num_characters > 0
        for turn in sample.turns:
            wanted = [sample.masks[span.objects[0]].any() for span in turn.spans]
            assert all(wanted) and bool(turn.spans) != turn.answer.startswith("There is no ")


def test_a_file_is_a_dataset_as_well(tmp_path: Path) -> None:
    for name, file in (("coco", "labels.json"), ("yolo", "data.yaml"), ("cvat", "annotations.xml")):
        folder = WRITERS[name](tmp_path / name)
        assert detect(folder / file) == name and len(build(folder / file, split="all")) == 3
    assert len(build(write_labelme(tmp_path / "l") / "photo_1.json", split="all")) == 1


def test_several_formats_need_a_choice(tmp_path: Path) -> None:
    write_yolo(write_coco(tmp_path))
    with pytest.raises(
        ValueError, match=r"several formats .*labels\.json\): own\.format=coco; .*data\.yaml\): own\.format=yolo"
    ):
        build(tmp_path)
    assert len(build(tmp_path, own=OwnConfig(format="yolo"), split="all")) == 3


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "there is nothing"),
        (("a.txt", "b.jpg"), r"expected COCO JSON.*; there is a\.txt, b\.jpg"),
        (("data.json",), r"expected COCO JSON.*data\.json"),
    ],
)
def test_a_folder_of_no_known_format_is_refused(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=reason) as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_packed_or_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file or folder"):
        build(tmp_path / "gone")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"data\.zip: it is an archive; unpack it"):
        build(tmp_path / "data.zip")
    with pytest.raises(ValueError, match="unknown format 'x'; expected auto, coco"):
        build(tmp_path, own=OwnConfig(format="x"))
    with pytest.raises(ValueError, match="split is 'test'; expected train, val, all"):
        build(tmp_path, split="test")


def test_all_damaged_records_are_listed(tmp_path: Path) -> None:
    folder = write_coco(tmp_path, segmentation=[[1, 2]], category_id=1)
    text = (folder / "labels.json").read_text().replace('"category_id": 2', '"category_id": 8')
    (folder / "labels.json").write_text(text)
    with pytest.raises(DamagedRecords) as caught:
        build(folder)
    assert len(caught.value.errors) == 3
