"""Check what `sa2va segment` and `sa2va caption` print and write."""

import json
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.apps import cli
from sa2va.apps.commands.segment import segment
from sa2va.data import prompts
from sa2va.files.manifest import MANIFEST
from sa2va.inference.requests import Options
from sa2va.masks import decode_rle


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture = np.full((30, 40, 3), 255, np.uint8)
    picture[10:20, 5:25] = 0
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_writes_overlay_masks_and_coco(toy: Any, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photo.parent / "out"
    assert cli.main(["segment", str(photo), "the dark box.", "-o", str(out)]) == 0
    assert toy.asked == [(prompts.SEGMENT[0].format("the dark box"), None)]
    text, remarks = capsys.readouterr()
    assert text == "It is.\n"
    assert "presence 0.97" in remarks and "16.7 % of the picture" in remarks
    assert f"wrote 3 files to {out}/: overlay.png, mask_1.png, annotations.json" in remarks
    mask = np.array(Image.open(out / "mask_1.png"))
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255} and (mask > 0).sum() == 200
    coco = json.loads((out / "annotations.json").read_text())
    (annotation,) = coco["annotations"]
    assert annotation["bbox"] == [5, 10, 20, 10] and annotation["area"] == 200
    assert np.array_equal(decode_rle(annotation["segmentation"]), mask > 0)
    assert sorted(path.name for path in out.iterdir() if path.name != MANIFEST) == [
        "annotations.json",
        "mask_1.png",
        "overlay.png",
    ]


def test_an_absent_object_gets_no_mask_and_leaves_the_picture_alone(
    toy: Any, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photo.parent / "out"
    assert cli.main(["segment", str(photo), "nothing", "-o", str(out)]) == 0
    text, remarks = capsys.readouterr()
    assert text == "There is no nothing.\n" and "no mask" in remarks
    assert sorted(path.name for path in out.iterdir() if path.name != MANIFEST) == ["annotations.json", "overlay.png"]
    assert json.loads((out / "annotations.json").read_text())["annotations"] == []
    assert np.array_equal(np.array(Image.open(out / "overlay.png")), np.array(Image.open(photo)))


def test_json_is_all_there_is_on_standard_output(toy: Any, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photo.parent / "out"
    assert cli.main(["segment", str(photo), "the box", "--json", "--quiet", "-o", str(out)]) == 0
    text, remarks = capsys.readouterr()
    answer = json.loads(text)
    assert remarks == ""
    assert answer["text"] == "It is [SEG]." and answer["objects"][0]["scores"] == [0.88]
    assert answer["coco"]["annotations"][0]["area"] == 200
    assert [Path(name).is_file() for name in answer["files"]] == [True] * 3


def test_without_a_folder_nothing_is_written(toy: Any, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["segment", str(photo), "the box"]) == 0
    assert "add -o FOLDER" in capsys.readouterr().err
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_regions_reach_the_model(toy: Any, photo: Path) -> None:
    words = ["--region", "1,2,30,20", "--region", "7,8"]
    assert cli.main(["segment", str(photo), "what lies right of region1", *words]) == 0
    assert toy.asked[0][1] == [(1.0, 2.0, 30.0, 20.0), (7.0, 8.0)]


def test_defaults_are_those_of_the_library() -> None:
    options = signature(segment).parameters
    assert options["max_objects"].default == Options().max_objects
    assert options["threshold"].default == Options().mask_threshold


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ([], prompts.CAPTION[0]),
        (["--grounded"], prompts.GROUNDED_CAPTION[0]),
        (["--region", "1,1,9,9"], prompts.REGION[0].format("region1")),
    ],
)
def test_caption_asks_the_question_that_fits(toy: Any, photo: Path, words: list[str], prompt: str) -> None:
    assert cli.main(["caption", str(photo), *words]) == 0
    assert toy.asked[0][0] == prompt


def test_caption_of_a_clip(toy: Any, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), (value, 0, 0)) for value in (0, 120, 250)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    assert cli.main(["caption", str(tmp_path / "clip.gif"), "-o", str(tmp_path / "out")]) == 0
    assert toy.asked[0][0] == prompts.VIDEO_CAPTION[0]
    assert (tmp_path / "out" / "overlay.mp4").is_file()
