"""Export RefCOCO and its relatives, and compare what the core reads with the drawn samples."""

import json

import numpy as np
import pytest
from world.export.conftest import Export
from world.export.reading import EVERY, assert_same_answers, assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.data.plain_pickle import read_plain_pickle
from sa2va.world.export.refcoco import DATASETS, draw_pictures


@pytest.mark.parametrize(
    "name, splits",
    [
        ("refcoco", ["train", "val", "testA", "testB"]),
        ("refcoco+", ["train", "val", "testA", "testB"]),
        ("refcocog", ["train", "val", "test"]),
        ("grefcoco", ["train", "val", "testA", "testB"]),
    ],
)
def test_the_reader_gives_the_drawn_samples_of_each_split(name: str, splits: list[str], write: Export) -> None:
    root, parts = write(name, "train", "dev", items=2)
    assert [part.name for part in parts] == splits
    for part in parts:
        dataset = build_dataset(name, root / FOLDERS[name], split=part.name, draw=EVERY)
        drawn = [sample for _, sample in draw_pictures(part, name)]
        assert len(drawn) == 2
        assert len(dataset) == 2
        for index, sample in enumerate(drawn):
            assert_same_pictures(dataset[index], sample.frames)
            assert_same_answers(dataset[index], sample, DATASETS[name].kinds)


def test_each_picture_of_grefcocos_evaluation_asks_for_none_one_and_several(write: Export) -> None:
    root, _ = write("grefcoco", "dev", items=2)
    refs = json.loads((root / "ref_seg/grefcoco/grefs(unc).json").read_text())
    numbers: dict[tuple[str, int], set[int]] = {}
    for ref in refs:
        numbers.setdefault((ref["split"], ref["image_id"]), set()).add(min(sum(i >= 0 for i in ref["ann_id"]), 2))
    assert len(numbers) == 6 and all(found == {0, 1, 2} for found in numbers.values())


def test_every_object_is_annotated_as_in_coco(write: Export) -> None:
    root, (part,) = write("refcoco", items=2)
    coco = json.loads((root / "ref_seg/refcoco/instances.json").read_text())
    drawn = [sample for _, sample in draw_pictures(part, "refcoco")]
    assert len(coco["annotations"]) == sum(len(sample.meta["scene"].objects) for sample in drawn)
    areas = [int(mask.sum()) for sample in drawn for mask in sample.masks[:, 0]]
    assert [one["area"] for one in coco["annotations"]] == areas
    names = {one["id"]: one["name"] for one in coco["categories"]}
    shapes = [thing.shape for sample in drawn for thing in sample.meta["scene"].objects]
    assert [names[one["category_id"]] for one in coco["annotations"]] == shapes


def test_grefcoco_has_groups_and_absent_objects(write: Export) -> None:
    root, _ = write("grefcoco", items=12)
    refs = json.loads((root / "ref_seg/grefcoco/grefs(unc).json").read_text())
    assert any(len(ref["ann_id"]) > 1 for ref in refs)
    absent = [ref for ref in refs if ref["no_target"]]
    assert absent and all(ref["ann_id"] == [-1] for ref in absent)


def test_ids_are_unique_over_parts(write: Export) -> None:
    root, _ = write("refcoco", "train", "dev")
    refs = read_plain_pickle(root / "ref_seg/refcoco/refs(unc).p")
    ids = [ref["ref_id"] for ref in refs]
    assert len(set(ids)) == len(ids) and np.all(np.asarray(ids) >= 0)
