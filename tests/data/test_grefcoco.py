"""Check the reader of gRefCOCO: expressions of one, several and no objects."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_json, write_pickle
from support.stored_pictures import BOXES, write_grefcoco

from sa2va.data.catalog import build_dataset
from sa2va.data.stored import DrawConfig
from sa2va.types import Sample, Turn


def find_turn(sample: Sample, text: str) -> Turn:
    return next(turn for turn in sample.turns if text in turn.question)


def read_masks(sample: Sample, turn: Turn) -> np.ndarray:
    return sample.tracks.masks([row for span in turn.spans for row in span.objects], [0])[:, 0]


def test_a_group_gets_a_mask_per_member_and_an_absent_object_an_answer_in_words(tmp_path: Path) -> None:
    dataset = build_dataset("grefcoco", write_grefcoco(tmp_path))
    assert len(dataset) == 3
    wanted = np.stack([rectangle_mask(*box) for box in BOXES])
    sample = dataset[1]
    assert np.array_equal(read_masks(sample, find_turn(sample, "both")), wanted)
    assert np.array_equal(read_masks(sample, find_turn(sample, "left")), wanted[:1])
    absent = find_turn(sample, "cat")
    assert absent.answer == "There is no cat." and not absent.spans


def test_as_in_the_paper_a_group_is_one_mask_and_an_absent_object_an_empty_one(tmp_path: Path) -> None:
    draw = DrawConfig(groups="union", absent="mask")
    sample = build_dataset("grefcoco", write_grefcoco(tmp_path), draw=draw)[0]
    union = rectangle_mask(*BOXES[0]) | rectangle_mask(*BOXES[1])
    assert np.array_equal(read_masks(sample, find_turn(sample, "both")), union[None])
    empty = read_masks(sample, find_turn(sample, "cat"))
    assert empty.shape == (1, *union.shape) and not empty.any()


def test_the_pickle_of_the_evaluation_reads_the_same(tmp_path: Path) -> None:
    wanted = build_dataset("grefcoco", write_grefcoco(tmp_path))[0].turns
    file = tmp_path / "grefs(unc).json"
    write_pickle(tmp_path / "grefs(unc).p", json.loads(file.read_text()))
    file.unlink()
    assert build_dataset("grefcoco", tmp_path)[0].turns == wanted


def test_a_crowd_is_no_target(tmp_path: Path) -> None:
    file = write_grefcoco(tmp_path) / "instances.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["iscrowd"] = 1
    write_json(file, content)
    sample = build_dataset("grefcoco", tmp_path)[0]
    assert np.array_equal(read_masks(sample, find_turn(sample, "both")), rectangle_mask(*BOXES[0])[None])


@pytest.mark.parametrize(
    "ann_id, reason",
    [
        ([77], r"reference 0: there is no annotation 77 in instances\.json"),
        ([0, 10], r"reference 0: annotation 10 is of image 1, not of 0"),
        ([], r"reference 0: ann_id is \[\]; expected annotation ids, or \[-1\] for no object"),
        ([-1, 0], r"reference 0: ann_id is \[-1, 0\]"),
        (["0"], r"reference 0: ann_id is \['0'\]"),
        (None, r"reference 0: ann_id is None; expected a whole number"),
    ],
)
def test_a_damaged_reference_is_named(tmp_path: Path, ann_id: object, reason: str) -> None:
    file = write_grefcoco(tmp_path) / "grefs(unc).json"
    refs = json.loads(file.read_text())
    refs[0]["ann_id"] = ann_id
    write_json(file, refs)
    with pytest.raises(ValueError, match=r"grefs\(unc\)\.json: " + reason):
        build_dataset("grefcoco", tmp_path)


def test_polygons_and_run_lengths_are_checked_before_training(tmp_path: Path) -> None:
    file = write_grefcoco(tmp_path) / "instances.json"
    content = json.loads(file.read_text())
    for damage, reason in [
        ([[1, 2, 3, 4, 5, "6"]], r"segmentation has polygon .* expected \[x0, y0"),
        ({"size": [9, 9], "counts": [81]}, r"segmentation has size \[9, 9\]; expected that of the picture, \[24, 32\]"),
    ]:
        content["annotations"][0]["segmentation"] = damage
        write_json(file, content)
        with pytest.raises(ValueError, match=r"instances\.json: annotation 0: " + reason):
            build_dataset("grefcoco", tmp_path)
