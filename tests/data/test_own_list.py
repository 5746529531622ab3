"""Check the reader of the released fine-tuning format."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_json
from support.stored_pictures import BOXES, write_own_list

from sa2va.data.catalog import build_dataset


def test_every_object_of_a_picture_has_its_mask(tmp_path: Path) -> None:
    dataset = build_dataset("own_list", write_own_list(tmp_path))
    assert len(dataset) == 3
    wanted = [rectangle_mask(*box) for box in BOXES]
    for turn in dataset[0].turns:
        place = "right" in turn.question
        assert turn.spans[0].objects == (place,)
        assert np.array_equal(dataset[0].tracks.masks([place], [0])[0, 0], wanted[place])


def test_objects_that_share_a_text_are_a_group(tmp_path: Path) -> None:
    (turn,) = build_dataset("own_list", write_own_list(tmp_path))[2].turns
    assert turn.spans[0].objects == (0, 1)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"image": "gone.png"}, r"there is no gone\.png in .*images"),
        ({"text": ["a box"]}, "it has 2 masks and 1 texts; expected one text per mask"),
        ({"text": ["a box", ""]}, "text 1 is ''; expected a text"),
        ({"mask": [], "text": []}, "it has 0 masks and 0 texts"),
        ({"mask": [[[1, 2, 3, 4]], [[1, 2, 3, 4]]]}, r"segmentation has polygon \[1, 2, 3, 4\]"),
        ({"mask": "none"}, "mask is 'none'; expected a list"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_own_list(tmp_path) / "annotations.json"
    records = json.loads(file.read_text())
    records[1] |= change
    write_json(file, records)
    with pytest.raises(ValueError, match=rf"annotations\.json: record 1: {reason}"):
        build_dataset("own_list", tmp_path)
