"""Check the readers of Osprey: marked regions, conversations about them, and descriptions."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import SIZE, rectangle_mask, write_json
from support.stored_pictures import BOXES, write_osprey

from sa2va.data import prompts
from sa2va.data.catalog import build_dataset
from sa2va.data.osprey import MarkedPictures, decode_region
from sa2va.data.stored import DrawConfig

KINDS = ("osprey", "osprey_description", "osprey_part", "osprey_short", "osprey_lvis")


@pytest.mark.parametrize("name", KINDS)
def test_the_first_turn_marks_all_regions_in_each_form_of_masks(tmp_path: Path, name: str) -> None:
    dataset = build_dataset(name, write_osprey(tmp_path))
    assert len(dataset) == 3
    for index in range(3):
        sample = dataset[index]
        assert np.array_equal(sample.turns[0].regions, [rectangle_mask(*box) for box in BOXES])
        assert len(sample.turns) == 2 and not sample.turns[1].regions
        assert sample.frames.shape == (1, *SIZE, 3)


def test_a_conversation_names_regions_as_the_prompt_does_and_keeps_other_brackets(tmp_path: Path) -> None:
    turns = build_dataset("osprey", write_osprey(tmp_path))[0].turns
    assert turns[0].question == "Is region1 left of region2, x < y?" and turns[0].answer == "Yes, region1 is."
    assert turns[1].answer == "It is a <b>box</b>."
    short = build_dataset("osprey_short", tmp_path)[0].turns
    assert [turn.question for turn in short] == [f"{turn.question} {prompts.SHORT_ANSWER}" for turn in turns]


def test_each_description_answers_a_question_about_its_region(tmp_path: Path) -> None:
    dataset = build_dataset("osprey_description", write_osprey(tmp_path))
    answers = {"region1": "A low box.", "region2": "A tall box, unlike region1."}
    for turn in dataset[0].turns:
        (name,) = (name for name in answers if name in turn.question)
        assert turn.answer == answers[name]
    assert {turn.answer for turn in dataset[1].turns} == {"A low box.", "A tall box."}


def test_epochs_describe_every_region_before_one_is_repeated(tmp_path: Path) -> None:
    dataset = build_dataset("osprey_description", write_osprey(tmp_path), draw=DrawConfig(num_expressions=1))
    told = [dataset.draw(0, epoch).turns[0].answer for epoch in range(2)]
    assert len(set(told)) == 2 and len(dataset.draw(0, 1).turns[0].regions) == 2


def test_a_name_with_its_folder_is_found(tmp_path: Path) -> None:
    file = write_osprey(tmp_path) / "Osprey-724K/osprey_lvis_positive_negative.json"
    records = json.loads(file.read_text())
    records[1]["file_name"] = "train2017/000000000001.jpg"
    write_json(file, records)
    media = build_dataset("osprey_lvis", tmp_path)[1].media[0]
    assert np.array_equal(media.frames([0]), build_dataset("osprey", tmp_path)[1].media[0].frames([0]))


def test_a_region_between_pixel_centers_marks_the_pixel_at_its_middle() -> None:
    mask = decode_region([[3.1, 4.1, 3.2, 4.1, 3.2, 4.2]], *SIZE)
    assert np.argwhere(mask).tolist() == [[4, 3]]


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"conversations": []}, "pictures without a question"),
        (
            {"annotation": [{"segmentation": {"size": [24, 32], "counts": [768]}}]},
            "pictures with a region without a pixel",
        ),
    ],
)
def test_records_without_anything_to_talk_about_are_left_out_and_counted(
    tmp_path: Path, change: dict, rule: str
) -> None:
    file = write_osprey(tmp_path) / "Osprey-724K/osprey_conversation.json"
    records = json.loads(file.read_text())
    write_json(file, [records[0] | change, *records[1:]])
    dataset = build_dataset("osprey", tmp_path)
    assert len(dataset) == 2 and isinstance(dataset, MarkedPictures) and dataset.left_out == {rule: 1}


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"file_name": "gone.jpg"}, r"record 0: there is no gone\.jpg in "),
        (
            {"height": 25},
            r"record 0, region 0: segmentation has size \[24, 32\]; expected that of the picture, \[25, 32\]",
        ),
        ({"annotation": []}, "record 0: annotation is empty; expected a region"),
        ({"annotation": [{}]}, "record 0, region 0: it has no field 'segmentation'"),
        ({"annotation": [{"segmentation": {"size": [24, 32], "counts": [9]}}]}, "record 0, region 0: .*9"),
        (
            {"conversations": [{"from": "human", "value": "Who?"}] * 2},
            "record 0: conversations has no question with an ",
        ),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_osprey(tmp_path) / "Osprey-724K/osprey_conversation.json"
    records = json.loads(file.read_text())
    write_json(file, [records[1] | {"id": 0} | change])
    with pytest.raises(ValueError, match=rf"osprey_conversation\.json: {reason}"):
        build_dataset("osprey", tmp_path)


@pytest.mark.parametrize(
    "texts, reason",
    [
        ([], "description is empty"),
        (["<region3>: A box."], "description 0 is '<region3>: A box.', one of 2 regions"),
        (["A box.", "<region2>: "], "description 1 is '<region2>: ', one of 2 regions"),
        ([7], "description 0 is 7; expected a text"),
    ],
)
def test_a_description_of_no_region_is_named(tmp_path: Path, texts: list, reason: str) -> None:
    file = write_osprey(tmp_path) / "Osprey-724K/osprey_detail_description.json"
    records = json.loads(file.read_text())
    records[2]["description"] = texts
    write_json(file, records)
    with pytest.raises(ValueError, match=rf"osprey_detail_description\.json: record 2: {reason}"):
        build_dataset("osprey_description", tmp_path)
