"""Check the reader of Ref-DAVIS17 on a small dataset in its layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stored_clips import rle_track, track, write_davis
from support.stored_layouts import write_json, write_pickle

from sa2va.data.catalog import build_dataset


@pytest.mark.parametrize("masks", ["png", "pkl"])
def test_each_object_has_four_annotators(tmp_path: Path, masks: str) -> None:
    dataset = build_dataset("ref_davis17", write_davis(tmp_path, masks), split="valid")
    assert len(dataset) == 3
    for record in dataset.records:
        assert [one.id for one in record.expressions] == [str(number) for number in range(8)]
        assert [one.annotator for one in record.expressions] == [0, 1, 2, 3, 0, 1, 2, 3]
        assert [one.objects for one in record.expressions] == [(0,)] * 4 + [(1,)] * 4
        assert np.array_equal(record.tracks.masks([0, 1], range(6)), [track(0), track(1)])


def test_a_text_that_two_annotators_wrote_is_drawn_once(tmp_path: Path) -> None:
    dataset = build_dataset("ref_davis17", write_davis(tmp_path), split="valid")
    drawn = [name for epoch in range(2) for name in dataset.draw(0, epoch).meta["expressions"]]
    assert set(drawn) == set("0234567") and len(set(drawn[:5])) == 5


def test_keys_count_the_clips_in_alphabetical_order(tmp_path: Path) -> None:
    folder = write_davis(tmp_path, "pkl")
    file = folder / "meta_expressions/valid/meta_expressions.json"
    videos = json.loads(file.read_text())["videos"]
    write_json(file, {"videos": dict(reversed(videos.items()))})
    shifted = [rle_track(0)] * 8 + [rle_track(1)] * 16  # clip "ab" comes first, whatever the order of the file
    write_pickle(folder / "valid/mask_dict.pkl", {str(key): rles for key, rles in enumerate(shifted)})
    records = build_dataset("ref_davis17", folder, split="valid").records
    assert [record.video for record in records] == ["ef", "cd", "ab"]
    for record, row in zip(records, (1, 1, 0), strict=True):
        assert np.array_equal(record.tracks.masks([0], range(6))[0], track(row))


def test_the_training_split_lies_beside_it(tmp_path: Path) -> None:
    dataset = build_dataset("ref_davis17", write_davis(tmp_path, split="train"))
    assert len(dataset) == 3 and len(dataset[0].turns) == 5
