"""Export RefCOCO and its relatives, and compare what the core reads with the drawn samples."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from world.export.conftest import Export
from world.export.reading import EVERY, assert_same_answers, assert_same_pictures

from sa2va.data.catalog import DATASETS, FOLDERS, build_dataset
from sa2va.data.plain_pickle import read_plain_pickle
from sa2va.world.export.refcoco import PLACELESS, SINGLE, find_references
from sa2va.world.language.expressions import KINDS

CASES = [("refcoco", 0, SINGLE), ("refcoco+", 1, PLACELESS), ("refcocog", 2, SINGLE), ("grefcoco", 3, tuple(KINDS))]


@pytest.mark.parametrize("name, block, kinds", CASES)
def test_the_reader_gives_the_drawn_samples(name: str, block: int, kinds: Sequence[str], write: Export) -> None:
    if name not in DATASETS:
        pytest.skip(f"no reader of {name}")
    root, parts = write(name, "train", "dev")
    for part, split in zip(parts, ("train", "val"), strict=True):
        dataset = build_dataset(name, root / FOLDERS[name], split=split, draw=EVERY)
        drawn = [
            sample
            for _, sample in part.draw(
                "refseg", block=block, keep=lambda one: find_references(one, kinds), empty_share=0.0
            )
        ]
        assert len(dataset) == len(drawn) == 3
        for index, sample in enumerate(drawn):
            assert_same_pictures(dataset[index], sample.frames)
            assert_same_answers(dataset[index], sample, kinds)


def test_every_object_is_annotated_as_in_coco(write: Export) -> None:
    root, (part,) = write("refcoco", items=2)
    coco = json.loads((root / "ref_seg/refcoco/instances.json").read_text())
    drawn = [sample for _, sample in part.draw("refseg", empty_share=0.0)]
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
