"""Check the reader of RefCOCO on a small dataset in its layout."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_json, write_pickle, write_refcoco

from sa2va.data.base import Repeat
from sa2va.data.catalog import build_dataset
from sa2va.data.refcoco import refcoco
from sa2va.data.referring import ReferringPictures
from sa2va.data.stored import DrawConfig


def test_every_picture_of_the_split_is_a_record_with_all_its_objects(tmp_path: Path) -> None:
    dataset = build_dataset("refcoco", write_refcoco(tmp_path))
    assert len(dataset) == 2
    sample = dataset[0]
    assert sample.task == "refcoco" and sample.num_frames == 1 and len(sample.turns) == 4
    wanted = [rectangle_mask(2, 3, 10, 12), rectangle_mask(14, 5, 30, 20)]
    assert np.array_equal(sample.masks[:, 0], wanted)
    for turn in sample.turns:
        (row,) = turn.spans[0].objects
        assert f"thing {row} " in turn.question and "The" not in turn.question.split("thing")[0][-4:]
    assert len(build_dataset("refcoco", tmp_path, split="val")) == 1


def test_epochs_use_every_sentence_before_one_is_repeated(tmp_path: Path) -> None:
    dataset = build_dataset("refcoco", write_refcoco(tmp_path), draw=DrawConfig(num_expressions=2))
    asked = [turn.question for epoch in range(2) for turn in dataset.draw(0, epoch).turns]
    assert {word for question in asked for word in question.replace(".", " ").split() if word in "ab"} == {"a", "b"}
    assert sum("thing 0 a" in question for question in asked) == 1
    repeated = Repeat(dataset, seed=3)
    item, epoch = repeated.locate(3)
    assert epoch == 1 and repeated[3].turns == dataset.draw(item, 1).turns


def test_overlapping_polygons_give_a_binary_mask(tmp_path: Path) -> None:
    folder = write_refcoco(tmp_path)
    both = [[2, 2, 9, 2, 9, 9, 2, 9], [5, 5, 12, 5, 12, 12, 5, 12]]
    images = [{"id": 0, "file_name": "COCO_train2014_000000000000.jpg", "height": 24, "width": 32}]
    write_json(
        folder / "instances.json", {"images": images, "annotations": [dict(id=0, image_id=0, segmentation=both)]}
    )
    refs = [dict(ann_id=0, image_id=0, split="train", sentences=[{"raw": "it"}])]
    write_pickle(folder / "refs(unc).p", refs)
    mask = build_dataset("refcoco", folder)[0].masks[0, 0]
    assert mask.dtype == bool and mask.sum() == 49 + 49 - 16


def test_a_sentence_is_put_into_a_template_and_one_without_a_word_is_left_out(tmp_path: Path) -> None:
    refs = pickle.loads((write_refcoco(tmp_path) / "refs(unc).p").read_bytes())
    refs[0]["sentences"] = [{"raw": "Guy on left?  The tall one."}, {"raw": " "}, {"raw": "?"}]
    refs[2]["sentences"] = refs[3]["sentences"] = []
    write_pickle(tmp_path / "refs(unc).p", refs)
    dataset = build_dataset("refcoco", tmp_path)
    assert isinstance(dataset, ReferringPictures)
    assert [one.text for one in dataset.records[0].expressions][0] == "guy on left the tall one"
    assert dataset.left_out == {"sentences without a word": 2, "pictures without a sentence": 1}


def test_evaluation_asks_every_sentence_as_the_dataset_cleaned_it(tmp_path: Path) -> None:
    refs = pickle.loads((write_refcoco(tmp_path) / "refs(unc).p").read_bytes())
    refs[0]["sentences"] = [
        {"raw": "Guy on left?", "sent": "guy on left", "sent_id": 7},
        {"raw": "?", "sent": "", "sent_id": 9},
        {"raw": "Guy on left!", "sent": "guy on left", "sent_id": 8},
    ]
    write_pickle(tmp_path / "refs(unc).p", refs)
    dataset = refcoco(tmp_path, as_evaluated=True)
    found = [(one.id, one.text) for one in dataset.records[0].expressions]
    assert found[:3] == [("0/7", "guy on left"), ("0/9", ""), ("0/8", "guy on left")]
    assert found[3:] == [("1/2", "cleaned 1 a"), ("1/3", "cleaned 1 b")]
    assert not dataset.left_out


def test_texts_of_python_2_are_read(tmp_path: Path) -> None:
    refs = pickle.loads((write_refcoco(tmp_path) / "refs(unc).p").read_bytes())
    refs[0]["sentences"][0]["raw"] = "placeholder"
    content = pickle.dumps(refs, protocol=0).replace(b"Vplaceholder\n", "S'caf\u00e9'\n".encode())
    (tmp_path / "refs(unc).p").write_bytes(content)
    dataset = build_dataset("refcoco", tmp_path)
    assert isinstance(dataset, ReferringPictures) and dataset.records[0].expressions[0].text == "caf\u00e9"


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("content", [Hostile(), {"a": Hostile()}, np.float64(1), object()])
def test_a_pickle_that_names_a_class_or_function_is_refused(tmp_path: Path, content: object) -> None:
    folder = write_refcoco(tmp_path)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p: it is not a pickle of plain values \(it names "):
        build_dataset("refcoco", folder)
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"ann_id": 77}, r"refs\(unc\)\.p: reference 0: there is no annotation 77 in instances\.json"),
        ({"ann_id": 10}, r"reference 0: annotation 10 is of image 1, not of 0"),
        ({"image_id": 9}, r"reference 0: there is no image 9"),
        ({"sentences": "no"}, r"reference 0: sentences is 'no'; expected a list"),
        ({"sentences": [{"raw": None}]}, r"reference 0, sentence 0: raw is None; expected a text"),
        ({"split": None}, r"reference 0: split is None; expected a text"),
    ],
)
def test_a_damaged_reference_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    folder = write_refcoco(tmp_path)
    refs = pickle.loads((folder / "refs(unc).p").read_bytes())
    refs[0] |= change
    write_pickle(folder / "refs(unc).p", refs)
    with pytest.raises(ValueError, match=reason):
        build_dataset("refcoco", folder)


def test_a_missing_picture_is_named_before_training(tmp_path: Path) -> None:
    folder = write_refcoco(tmp_path)
    (folder / "coco2014/train2014/COCO_train2014_000000000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"instances\.json: image 1: there is no COCO_train2014_000000000001\.jpg in "):
        build_dataset("refcoco", folder)


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no reference of split 'testA'; it has train, val"):
        build_dataset("refcoco", write_refcoco(tmp_path), split="testA")
