"""Check the reader of ReasonSeg: sentences and phrases, painted targets, damaged records."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_picture
from support.stored_pictures import BOXES, write_reasonseg

from sa2va.data.catalog import build_dataset
from sa2va.data.media_files import StoredPicture
from sa2va.data.reasonseg import PaintedOutlines, paint_outline
from sa2va.data.referring import ReferringPictures

OUTLINE = {"label": "target", "points": [[1, 1], [9, 1], [9, 9]]}


def test_sentences_are_asked_as_they_are_and_phrases_in_a_template(tmp_path: Path) -> None:
    dataset = build_dataset("reasonseg", write_reasonseg(tmp_path))
    assert len(dataset) == 2
    assert {turn.question for turn in dataset[0].turns} == {"What could be opened here", "Where is the lid?"}
    (turn,) = dataset[1].turns
    assert "the caf\u00e9's box" in turn.question and turn.question != "the caf\u00e9's box"


def painted(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Return a box with the pixels that its outline touches."""
    return rectangle_mask(x0, y0, x1 + 1, y1 + 1)


def test_a_smaller_part_to_ignore_cuts_the_target_and_a_flag_does_not(tmp_path: Path) -> None:
    dataset = build_dataset("reasonseg", write_reasonseg(tmp_path))
    assert isinstance(dataset, ReferringPictures)
    hole = painted(5, 5, 8, 9)
    assert np.array_equal(dataset[0].masks, (painted(*BOXES[0]) & ~hole)[None, None])
    ignored = [record.ignored.masks([0], [0])[0, 0] for record in dataset.records if record.ignored is not None]
    assert np.array_equal(ignored, [hole, np.zeros_like(hole)])
    assert np.array_equal(dataset[1].masks[0, 0], painted(*BOXES[1]))
    held_out = build_dataset("reasonseg", tmp_path, split="val")
    assert np.array_equal(held_out[0].masks[0, 0], painted(*BOXES[0]) | painted(*BOXES[1]))


def test_an_outline_is_cut_to_whole_pixels_and_has_those_that_it_touches() -> None:
    mask = paint_outline([[1.9, 1.9], [4.9, 1.9], [4.9, 3.9]], (6, 7))
    rows = ["       ", " ####  ", "  ###  ", "    #  ", "       ", "       "]
    assert ["".join(" #"[int(pixel)] for pixel in row) for row in mask] == rows
    with pytest.raises(ValueError, match=r"do not belong to a 7x6 picture"):
        paint_outline([[1, 1], [4, 1], [4, 3e9]], (6, 7))


def test_of_two_outlines_of_one_size_the_first_is_painted_last(tmp_path: Path) -> None:
    picture = StoredPicture(write_picture(tmp_path / "a.png"))
    one, other = [[1, 1], [5, 1], [5, 5], [1, 5]], [[3, 1], [7, 1], [7, 5], [3, 5]]
    for outlines, area in (([(True, one), (False, other)], 25), ([(False, other), (True, one)], 10)):
        assert PaintedOutlines(outlines, picture, of_target=True).masks([0], [0]).sum() == area


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"shapes": []}, "it has no shape with label 'target'"),
        ({"shapes": [OUTLINE | {"label": "ignore2"}]}, "it has no shape with label 'target'"),
        ({"shapes": [OUTLINE | {"points": [[1, 1], [2, 2]]}]}, "points has 2 points; expected 3 or more"),
        ({"shapes": [OUTLINE | {"points": [[1, 1, 1]]}]}, r"points has \[1, 1, 1\]; expected \[x, y\]"),
        ({"text": ["a box", 3]}, r"text is \['a box', 3\]; expected a list of texts"),
        ({"text": []}, r"text is \[\]"),
        ({"is_sentence": "no"}, "is_sentence is 'no'; expected true or false"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_reasonseg(tmp_path) / "train/a.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=rf"train/a\.json: .*{reason}"):
        build_dataset("reasonseg", tmp_path)


def test_a_picture_or_annotation_alone_is_named(tmp_path: Path) -> None:
    write_reasonseg(tmp_path)
    write_picture(tmp_path / "train/d.jpg")
    with pytest.raises(ValueError, match=r"train: d\.jpg has no annotation d\.json"):
        build_dataset("reasonseg", tmp_path)
    (tmp_path / "train/d.jpg").unlink()
    (tmp_path / "train/a.jpg").unlink()
    with pytest.raises(ValueError, match=r"a\.json: .*there is no a\.jpg in "):
        build_dataset("reasonseg", tmp_path)
