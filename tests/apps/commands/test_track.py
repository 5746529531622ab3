"""Check what `sa2va track` prints and writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.apps import cli
from sa2va.data import prompts
from sa2va.media.source import open_media
from sa2va.media.writer import VideoWriter

NUM_FRAMES = 6


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for index in range(NUM_FRAMES):
            frame = np.full((48, 64, 3), 255, np.uint8)
            frame[16:32, 4 * index : 4 * index + 16] = 0
            video.write(frame)
    return tmp_path / "clip.mp4"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_writes_overlay_masks_and_coco_video(toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clip.parent / "out"
    words = ["track", str(clip), "the box that moves right", "-o", str(out), "--num-keyframes", "3"]
    assert cli.main(words) == 0
    assert toy.asked == [(prompts.SEGMENT[0].format("the box that moves right"), 3)]
    text, remarks = capsys.readouterr()
    assert text == "1 the box that moves right: seen in 6 of 6 frames\n"
    assert "6/6" in remarks and f"wrote 8 files to {out}/" in remarks
    assert visible(out) == ["annotations.json", "mask_1", "overlay.mp4"]
    assert len(list((out / "mask_1").iterdir())) == NUM_FRAMES
    assert open_media(out / "overlay.mp4").num_frames == NUM_FRAMES
    (track,) = json.loads((out / "annotations.json").read_text())["annotations"]
    assert len(track["segmentations"]) == NUM_FRAMES
    assert track["bboxes"][5][0] - track["bboxes"][0][0] == pytest.approx(20, abs=1)


def test_nothing_found(toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clip.parent / "out"
    assert cli.main(["track", str(clip), "nothing", "-o", str(out), "--quiet"]) == 0
    text, remarks = capsys.readouterr()
    assert "no 'nothing'" in text and remarks == ""
    assert json.loads((out / "annotations.json").read_text())["annotations"] == []


def test_key_frames_are_chosen(toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["track", str(clip), "the box", "-o", str(clip.parent / "out"), "--quiet", "--keyframes"]
    assert cli.main([*words, "content"]) == 0
    assert toy.asked[0][1:] == (None, "content")  # their number is the model's own
    assert cli.main([*words, "middle"]) == 2
    assert "middle" in capsys.readouterr().err


def test_json(toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clip.parent / "out"
    assert cli.main(["track", str(clip), "the box", "-o", str(out), "--quiet", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["num_frames"] == NUM_FRAMES and answer["objects"] == [
        {"id": 1, "expression": "the box", "num_frames": NUM_FRAMES}
    ]
    assert all(Path(name).is_file() for name in answer["files"])


def test_a_track_that_breaks_leaves_nothing(toy: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        yield next(iter(type(toy).track(toy, *args, **kwargs)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(toy, "track", broken, raising=False)
    assert cli.main(["track", str(clip), "the box", "-o", str(clip.parent / "out")]) == 2
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_several_expressions_go_into_one_output(toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clip.parent / "out"
    words = ["track", str(clip), "the box", "nothing", "a square.", "-o", str(out), "--quiet"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out.splitlines()
    assert text == [
        "The model finds no 'nothing' in 6 frames.",
        "1 the box: seen in 6 of 6 frames",
        "2 a square: seen in 6 of 6 frames",
    ]
    coco = json.loads((out / "annotations.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["the box", "nothing", "a square"]
    assert [(track["id"], track["category_id"]) for track in coco["annotations"]] == [(1, 1), (2, 3)]


def test_an_empty_expression_is_refused(toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["track", str(clip), "the box", " ", "-o", str(clip.parent / "out")]) == 2
    assert "EXPRESSION is empty" in capsys.readouterr().err


def test_a_shorter_run_leaves_no_frames_and_objects_of_the_longer_one(toy: Any, clip: Path) -> None:
    out, short = clip.parent / "out", clip.parent / "short.mp4"
    with VideoWriter(short, 10) as video:
        for frame in open_media(clip).frames([0, 1]):
            video.write(frame)
    assert cli.main(["track", str(clip), "the box", "a square", "-o", str(out), "--quiet"]) == 0
    (out / "mask_2" / "notes.txt").write_text("mine")
    assert cli.main(["track", str(short), "the box", "-o", str(out), "--quiet"]) == 0
    assert sorted(path.name for path in (out / "mask_1").iterdir()) == ["00000.png", "00001.png"]
    assert visible(out) == ["annotations.json", "mask_1", "mask_2", "overlay.mp4"]
    assert [path.name for path in (out / "mask_2").iterdir()] == ["notes.txt"]
    (out / "mask_2" / "notes.txt").unlink()
    (out / "mask_2").rmdir()
    assert cli.main(["segment", str(clip), "nothing", "-o", str(out), "--quiet"]) == 0
    assert visible(out) == ["annotations.json", "overlay.mp4"]


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("ow/overlay.mp4", "ow/overlay.mp4"),
        ("link.mp4", "ow/overlay.mp4"),
        ("hard.mp4", "ow/overlay.mp4"),
        ("ow/mask_1", "ow/mask_1/00000.png"),
        ("ow/mask_1", "ow/mask_1/frame_0.png"),
    ],
)
@pytest.mark.parametrize("command", ["track", "segment", "caption", "chat"])
def test_the_input_is_never_replaced(
    command: str, source: str, file: str, toy: Any, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = clip.parent
    out = here / "ow" / "answer_01" if command == "chat" else here / "ow"
    place = out / Path(file).relative_to("ow")
    place.parent.mkdir(parents=True)
    if place.suffix == ".png":
        Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(place)
        Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(place.with_name("00001.png"))
    else:
        place.write_bytes(clip.read_bytes())
    (here / "link.mp4").symlink_to(out / "overlay.mp4")
    if source == "hard.mp4":
        (here / "hard.mp4").hardlink_to(place)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    media = out / Path(source).relative_to("ow") if source.startswith("ow") else here / source
    words = [command, str(media), *(["the box"] if command in ("track", "segment") else []), "-o", str(here / "ow")]
    assert cli.main(words) == 2
    text, error = capsys.readouterr()
    assert text == "" and error.count("\n") == 1 and "is the input itself" in error and toy.asked == []
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
