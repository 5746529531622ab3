"""Check the reader of conversations about videos."""

import json
from pathlib import Path

import pytest
from support.stored_clips import write_mp4, write_videochat
from support.stored_layouts import write_json

from sa2va.data.catalog import build_dataset
from sa2va.data.stored import DamagedRecords


def test_every_conversation_is_a_record_about_its_video(tmp_path: Path) -> None:
    dataset = build_dataset("videochat", write_videochat(tmp_path))
    assert len(dataset) == 3
    for number in range(3):
        sample = dataset[number]
        assert [(turn.question, turn.answer) for turn in sample.turns] == [
            ("What happens?", f"It is day {number}."), ("And then?", "Night."),
        ]  # fmt: skip
        assert sample.num_frames == 12 and sample.media[0].frames([0, 11]).shape == (2, 24, 32, 3)
        assert not len(sample.tracks) and sample.meta["video"] == f"v_{number}.mp4"  # the third is listed as .mkv


@pytest.mark.parametrize("marker", ["<video>", "<image>"])
def test_either_marker_is_removed_from_any_turn(tmp_path: Path, marker: str) -> None:
    file = write_videochat(tmp_path) / "video_chat.json"
    content = json.loads(file.read_text())
    content[0]["conversations"][0]["value"] = f"What happens?\n{marker}"
    content[0]["conversations"][2]["value"] = f"{marker}\nAnd then?"
    write_json(file, content)
    questions = [turn.question for turn in build_dataset("videochat", tmp_path)[0].turns]
    assert questions == ["What happens?", "And then?"]


def test_a_video_as_listed_is_preferred(tmp_path: Path) -> None:
    write_mp4(write_videochat(tmp_path) / "Activity_Videos/v_2.mkv", 7)
    assert build_dataset("videochat", tmp_path)[2].num_frames == 7


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"video": "v_9.mp4"}, r"video_chat\.json: record 1: there is no v_9\.mp4 in .*Activity_Videos"),
        ({"video": "v_9.mkv"}, r"record 1: there is no v_9\.mkv in .*; fetch the missing file or remove the record"),
        ({"video": 5}, r"record 1: video is 5; expected a text"),
        ({"conversations": []}, r"record 1: conversations has no question with an answer"),
        ({"conversations": [{"from": "bot", "value": "a"}]}, r"record 1, turn 0: from is 'bot'; expected 'human' or"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_videochat(tmp_path) / "video_chat.json"
    content = json.loads(file.read_text())
    content[1] |= change
    write_json(file, content)
    with pytest.raises(DamagedRecords, match=reason):
        build_dataset("videochat", tmp_path)


def test_a_damaged_video_is_named_by_its_record(tmp_path: Path) -> None:
    dataset = build_dataset("videochat", write_videochat(tmp_path))
    (tmp_path / "Activity_Videos/v_0.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"v_0\.mp4: "):
        dataset[0].media[0].frames([0])
    with pytest.raises(ValueError, match=r"dataset videochat: there is no split 'valid'; it has train"):
        build_dataset("videochat", tmp_path, split="valid")
