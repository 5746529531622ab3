"""Check the readers of picture conversations: LLaVA's list and the folders of Infinity-MM."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import write_json
from support.stored_pictures import write_infinity_mm, write_llava

from sa2va.data.catalog import build_dataset
from sa2va.data.stored import Extent
from sa2va.media.pictures import read_picture

FILE = "LLaVA-Instruct-150K/llava_v1_5_mix665k.json"


def test_every_conversation_is_a_record_with_its_picture_or_without_one(tmp_path: Path) -> None:
    dataset = build_dataset("llava", write_llava(tmp_path))
    assert len(dataset) == 3
    first, second, text = dataset[0], dataset[1], dataset[2]
    assert first.turns[0].question == "What is this?" and first.turns[0].answer == "A box."
    file = tmp_path / "llava_images/coco/train2017/000000000001.jpg"
    assert np.array_equal(first.frames[0], read_picture(file, 10**6))
    assert [turn.question for turn in second.turns] == ["What is left?", "And right?"]
    assert second.turns[1].answer == "A <b>tall</b> box."
    assert text.media == () and text.num_frames == 0 and len(text.masks) == 0
    assert "<image>" in text.turns[0].question
    assert dataset.extent(0) == Extent(1, len("What is this?A box.")) and dataset.extent(2).num_pictures == 0
    assert dataset.draw(1, epoch=3).turns == second.turns


def test_another_file_in_this_layout_is_read_with_the_pictures_beside_it(tmp_path: Path) -> None:
    write_llava(tmp_path)
    file = (tmp_path / FILE).rename(tmp_path / "mine.json")
    assert len(build_dataset("llava", file)) == 3


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"image": "gone.jpg"}, r"record 0: there is no gone\.jpg in .*llava_images"),
        ({"image": "../../secret.jpg"}, r"record 0: file name '\.\./\.\./secret\.jpg' is not a path below"),
        ({"image": ["a.jpg", "b.jpg"]}, r"record 0: image is \['a\.jpg', 'b\.jpg'\]; expected a text"),
        ({"conversations": []}, r"record 0: conversations has no question with an answer"),
        ({"conversations": [{"from": "human"}]}, r"record 0, turn 0: it has no field 'value'"),
        ({"conversations": ["Hello"]}, r"record 0, turn 0: it is 'Hello'; expected an object"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_llava(tmp_path) / FILE
    records = json.loads(file.read_text())
    records[0] |= change
    write_json(file, records)
    with pytest.raises(ValueError, match=r"llava_v1_5_mix665k\.json: " + reason):
        build_dataset("llava", tmp_path)


@pytest.mark.parametrize(
    "content, reason", [("{}", "expected a JSON list"), ("[", "not valid JSON"), ("[]", "an empty list")]
)
def test_a_file_that_is_no_list_of_records_is_named(tmp_path: Path, content: str, reason: str) -> None:
    (write_llava(tmp_path) / FILE).write_text(content)
    with pytest.raises(ValueError, match=rf"llava_v1_5_mix665k\.json.*{reason}"):
        build_dataset("llava", tmp_path)


def test_infinity_mm_reads_every_json_file_with_the_picture_of_its_name(tmp_path: Path) -> None:
    dataset = build_dataset("infinity_mm", write_infinity_mm(tmp_path))
    questions = [dataset[i].turns[0].question for i in range(len(dataset))]
    assert questions == ["What is 0?", "What is 1?", "<image>\nWhat is 2?"]
    assert [len(dataset[i].media) for i in range(3)] == [1, 1, 0]
    assert np.array_equal(dataset[1].frames[0], read_picture(tmp_path / "stage2/a/000002.jpg", 10**6))


@pytest.mark.parametrize("name", ["infinity_mm", "reasonseg"])
def test_a_folder_without_records_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(tmp_path))}.*: there is no JSON file .*; expected pairs of"
    ):
        build_dataset(name, tmp_path)


def test_infinity_mm_names_a_damaged_file(tmp_path: Path) -> None:
    folder = write_infinity_mm(tmp_path)
    (folder / "stage2/a/000001.jpg").unlink()
    (folder / "stage3/text.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a/000001\.json: record: there is no stage2/a/000001\.jpg .*\(and 1 more"):
        build_dataset("infinity_mm", folder)


@pytest.mark.parametrize("name", ["llava", "infinity_mm"])
def test_there_is_only_a_training_split(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"dataset {name}: there is no split 'val'; it has train"):
        build_dataset(name, tmp_path, split="val")
