"""Check the readers of grounded captions: offsets, nested and shared phrases, null groundings, damaged records."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_json
from support.stored_pictures import BOXES, CAPTION, write_gcg, write_gcg_evaluation

from sa2va.data import prompts
from sa2va.data.catalog import build_dataset
from sa2va.data.stored import DrawConfig
from sa2va.types import Sample

TEXT = CAPTION.strip('"')
FILES = {
    "gcg_grandf": "GranDf_HA_GCG_train.json",
    "gcg_openpsg": "OpenPsgGCG_train.json",
    "gcg_refcocog": "RefCOCOg_GCG_train.json",
    "gcg_flickr30k": "flickr_mergedGT_GCG_train.json",
}
FIRST, SECOND = (rectangle_mask(*box, size=(40, 48)) for box in BOXES)


def read_phrases(sample: Sample) -> dict[str, np.ndarray]:
    """Return the masks (N, H, W) of each phrase of the answer."""
    (turn,) = sample.turns
    return {turn.answer[one.start : one.end]: sample.tracks.masks(one.objects, [0])[:, 0] for one in turn.spans}


@pytest.mark.parametrize("name", ["gcg_grandf", "gcg_openpsg"])
def test_nested_phrases_keep_their_masks_and_null_groundings_are_left_out(tmp_path: Path, name: str) -> None:
    dataset = build_dataset(name, write_gcg(tmp_path))
    assert len(dataset) == 2 and dataset.left_out == {"captions without a grounded phrase": 1}
    assert dataset[0].turns[0].answer == TEXT
    first, second = read_phrases(dataset[0]), read_phrases(dataset[1])
    assert list(first) == ["A man in", "a red shirt"]
    assert np.array_equal(first["A man in"], [FIRST]) and np.array_equal(first["a red shirt"], [SECOND])
    assert np.array_equal(second["a red shirt"], [FIRST | SECOND])  # parts of one object, united


@pytest.mark.parametrize("offsets", [[3, 99], [0, 5], [3, 3]])
def test_a_phrase_with_wrong_offsets_is_found_by_its_text(tmp_path: Path, offsets: list[int]) -> None:
    file = write_gcg(tmp_path) / "annotations/OpenPsgGCG_train.json"
    right = build_dataset("gcg_openpsg", tmp_path)[1].turns[0]
    records = json.loads(file.read_text())
    records[1]["groundings"]["a red shirt"]["token_positives"] = offsets
    write_json(file, records)
    assert build_dataset("gcg_openpsg", tmp_path)[1].turns[0].spans == right.spans != ()


def test_offsets_may_also_count_from_behind_the_opening_quote(tmp_path: Path) -> None:
    file = write_gcg(tmp_path) / "annotations" / FILES["gcg_grandf"]
    records = json.loads(file.read_text())
    records[1]["groundings"]["a red shirt"]["token_positives"] = [9, 20]
    write_json(file, records)
    assert list(read_phrases(build_dataset("gcg_grandf", tmp_path)[1])) == ["a red shirt"]


def test_phrases_of_refcocog_are_found_by_their_text(tmp_path: Path) -> None:
    dataset = build_dataset("gcg_refcocog", write_gcg(tmp_path))
    assert len(dataset) == 2
    first, second = read_phrases(dataset[0]), read_phrases(dataset[1])
    assert np.array_equal(first["A man"], [SECOND]) and np.array_equal(first["a red shirt"], [FIRST])
    assert list(first) == ["A man", "a red shirt"]  # no dog
    assert np.array_equal(second["a ball"], [FIRST, SECOND])


def test_flickr_phrases_with_several_boxes_are_groups_and_short_captions_are_left_out(tmp_path: Path) -> None:
    dataset = build_dataset("gcg_flickr30k", write_gcg(tmp_path))
    assert len(dataset) == 2
    assert dataset.left_out == {"captions below 3 words or pictures below 32 px": 1}
    assert np.array_equal(read_phrases(dataset[0])["Two men"], [FIRST, SECOND])
    assert list(read_phrases(dataset[1])) == ["Two me", "a ball"]
    union = build_dataset("gcg_flickr30k", tmp_path, draw=DrawConfig(groups="union"))
    assert np.array_equal(read_phrases(union[0])["Two men"], [FIRST | SECOND])


@pytest.mark.parametrize("name", FILES)
def test_questions_are_those_of_prediction(tmp_path: Path, name: str) -> None:
    dataset = build_dataset(name, write_gcg(tmp_path))
    asked = {dataset.draw(0, epoch).turns[0].question for epoch in range(20)}
    assert asked == set(prompts.GROUNDED_CAPTION)


@pytest.mark.parametrize(
    "name, damage, reason",
    [
        ("gcg_grandf", lambda r: r[0].update(file_name="gone.jpg"), r"record 0: there is no gone\.jpg in .*grandf"),
        ("gcg_grandf", lambda r: r[0].update(caption=None), "record 0: caption is None; expected a text"),
        ("gcg_grandf", lambda r: r[0].update(height=9), r"record 0: segmentation has size \[40, 48\]"),
        ("gcg_openpsg", lambda r: r[1].update(caption="A hat."), r"record 1: phrase \d+:\d+ of the caption 'A hat\.'"),
        ("gcg_openpsg", lambda r: r[1]["groundings"]["a red shirt"].update(token_positives=[[3, 9]]),
         r"record 1, phrase 'a red shirt': the offsets of a phrase are \[\[3, 9\]\]"),
        ("gcg_openpsg", lambda r: r[1].update(groundings=[]), r"record 1: groundings is \[\]; expected an object"),
        ("gcg_refcocog", lambda r: r[0]["id0"]["refs"][0].update(segmentation=[]), r"record 0: segmentation is \[\]"),
        ("gcg_refcocog", lambda r: r[0].update(more={}), "record 0: it has 2 fields; expected one"),
        ("gcg_flickr30k", lambda r: r["annotations"][0].update(bbox=[1]), r"annotation 0: bbox is \[1\]"),
        ("gcg_flickr30k", lambda r: r["annotations"][0].update(tokens_positive=[]), "annotation 0: tokens_pos"),
        ("gcg_flickr30k", lambda r: r["annotations"][0].pop("sam_mask"), "annotation 0: it has no field 'sam_mask'"),
        ("gcg_flickr30k", lambda r: r["images"][0].update(file_name="x"), "image 0: there is no x in "),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(tmp_path: Path, name: str, damage: Callable, reason: str) -> None:
    file = write_gcg(tmp_path) / "annotations" / FILES[name]
    records = json.loads(file.read_text())
    damage(records)
    write_json(file, records)
    with pytest.raises(ValueError, match=rf"{FILES[name][:-5]}\.json: {reason}"):
        build_dataset(name, tmp_path)


def test_evaluation_splits_keep_ids_captions_and_one_mask_per_phrase(tmp_path: Path) -> None:
    write_gcg_evaluation(tmp_path, "val")
    dataset = build_dataset("gcg_grandf", write_gcg_evaluation(tmp_path, "test"), split="test")
    first, second = dataset.records
    assert (first.image_id, second.image_id) == ("sa_10", "sa_2")  # as COCO sorts names
    assert (first.references, first.labels) == ([CAPTION], ["A man", "a red shirt"])
    assert (second.references, second.labels) == (["A ball.", "One ball on the grass."], ["A ball"])
    phrases = read_phrases(dataset[0])
    assert dataset[0].turns[0].answer == TEXT
    assert np.array_equal(phrases["A man"], [FIRST]) and np.array_equal(phrases["a red shirt"], [SECOND])
    assert np.array_equal(dataset[1].masks[:, 0], [SECOND])


def test_a_phrase_that_is_not_in_the_caption_keeps_its_mask(tmp_path: Path) -> None:
    file = write_gcg_evaluation(tmp_path) / "annotations/gcg_val_test/val_gcg_coco_caption_gt.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["labels"] = ["a woman", "a red shirt", "a third one"]
    write_json(file, content)
    sample = build_dataset("gcg_grandf", tmp_path, split="val")[0]
    assert len(sample.masks) == 2 and list(read_phrases(sample)) == ["a red shirt"]


@pytest.mark.parametrize(
    "kind, damage, reason",
    [
        ("caption", lambda c: c["annotations"].pop(1), "image 0: there is no caption of image 'sa_10'"),
        ("caption", lambda c: c["annotations"][0].update(labels=[1]), r"annotation 0: labels is \[1\]"),
        ("caption", lambda c: c["annotations"][0].update(image_id=None), "annotation 0: image_id is None"),
        ("caption", lambda c: c["images"][1].update(file_name="gone.jpg"), "image 1: there is no gone.jpg in"),
        ("mask", lambda c: c["annotations"][0].update(image_id="sa_9"), "annotation 0: there is no such image in val_"),
        ("mask", lambda c: c["annotations"][1].update(segmentation=[]), r"segmentation is \[\]"),
    ],
)
def test_a_damaged_record_of_an_evaluation_split_is_named(
    tmp_path: Path, kind: str, damage: Callable, reason: str
) -> None:
    file = write_gcg_evaluation(tmp_path) / f"annotations/gcg_val_test/val_gcg_coco_{kind}_gt.json"
    content = json.loads(file.read_text())
    damage(content)
    write_json(file, content)
    with pytest.raises(ValueError, match=reason):
        build_dataset("gcg_grandf", tmp_path, split="val")
