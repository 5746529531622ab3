"""Check the reader of ReVOS on a small dataset in its layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stored_clips import rle_track, track, write_revos
from support.stored_layouts import write_json

from sa2va.data.catalog import build_dataset
from sa2va.data.stored import DamagedRecords


def test_questions_are_asked_as_they_are(tmp_path: Path) -> None:
    dataset = build_dataset("revos", write_revos(tmp_path))
    assert len(dataset) == 3
    sample = dataset[0]
    assert np.array_equal(sample.masks, [track(0), track(1)])
    turns = dict(zip(sample.meta["type_ids"], sample.turns, strict=True))
    assert "the left one of ab" in turns[0].question and turns[0].spans[0].objects == (0,)
    assert turns[1].question == "Which of the two arrives last?" and turns[1].spans[0].objects == (1,)
    assert turns[2].answer == "There is no unicorn."


@pytest.mark.parametrize("has_file", [True, False])
def test_the_foreground_is_that_of_the_file_or_the_union_of_all_objects(tmp_path: Path, has_file: bool) -> None:
    folder = write_revos(tmp_path)
    if not has_file:
        (folder / "mask_dict_foreground.json").unlink()
    dataset = build_dataset("revos", folder, split="valid")
    for record in dataset.records:
        assert np.array_equal(record.foreground.masks([0], range(6))[0], track(0) | track(1))
    assert build_dataset("revos", folder).records[0].foreground is None


def test_clips_may_be_named_from_the_root(tmp_path: Path) -> None:
    file = write_revos(tmp_path) / "meta_expressions_train_.json"
    videos = json.loads(file.read_text())["videos"]
    write_json(file, {"videos": {f"JPEGImages/{name}": fields for name, fields in videos.items()}})
    assert build_dataset("revos", tmp_path)[0].meta["video"] == "JPEGImages/ab"


def test_damage_is_named(tmp_path: Path) -> None:
    folder = write_revos(tmp_path)
    write_json(folder / "mask_dict_foreground.json", {"ab": {"masks_rle": [None] * 6}, "cd": {"masks_rle": [None]}})
    with pytest.raises(DamagedRecords, match=r"_valid_\.json: video cd: annotation cd of .*foreground\.json has 1 m"):
        build_dataset("revos", folder, split="valid")
    write_json(folder / "mask_dict.json", {"7": rle_track(0), "8": {"masks_rle": 5}})
    with pytest.raises(DamagedRecords, match=r"mask_dict\.json: annotation 8: it is 5; expected a list"):
        build_dataset("revos", folder)
    (folder / "mask_dict.json").unlink()
    with pytest.raises(ValueError, match=r"mask_dict\.json: there is no such file"):
        build_dataset("revos", folder)
