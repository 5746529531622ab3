"""Check `sa2va data check` on datasets read from files."""

import json
import pickle
from pathlib import Path

import pytest
from PIL import Image
from support.stored_layouts import write_pickle, write_refcoco

from sa2va.apps.cli import main


def test_a_sound_dataset_passes_and_gets_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_refcoco(tmp_path / "data")
    assert main(["data", "check", "refcoco", str(folder), "-o", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out/check.json").read_text()) and report["passed"]
    figures = report["figures"]
    assert figures["records"] == 2 and figures["turns per sample"] == 4
    assert figures["share pictures"] == figures["share with masks"] == 1 and figures["objects without a pixel"] == 0
    assert figures["objects per answer with masks"] == 1  # two sentences of one object ask for it twice
    assert figures["mask area of the frame, smallest"] == pytest.approx(72 / 768)
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.width > 240


def test_every_damaged_record_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_refcoco(tmp_path)
    refs = pickle.loads((folder / "refs(unc).p").read_bytes())
    for number in (0, 2):
        refs[number]["ann_id"] = 77
    write_pickle(folder / "refs(unc).p", refs)
    assert main(["data", "check", "refcoco", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "reference 0: there is no annotation 77" in out and "reference 2: there is no annotation 77" in out


def test_a_damaged_picture_is_found_by_decoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_refcoco(tmp_path)
    (folder / "coco2014/train2014/COCO_train2014_000000000000.jpg").write_bytes(b"no picture")
    assert main(["data", "check", "refcoco", str(folder)]) == 1
    assert "COCO_train2014_000000000000.jpg" in capsys.readouterr().out


def test_an_object_without_a_pixel_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_refcoco(tmp_path)
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"][0]["segmentation"] = {"size": [24, 32], "counts": [768]}
    (folder / "instances.json").write_text(json.dumps(content))
    assert main(["data", "check", "refcoco", str(folder)]) == 1
    assert "image 0: object 0 has no pixel on any frame" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, reason",
    [
        (["refcoco"], "refcoco is read from files; add their folder"),
        (["nope", "x"], "dataset check 'nope' is unknown: use one of refcoco, "),
        (["refcoco", "missing"], "missing/refs(unc).p: there is no such file or folder"),
    ],
)
def test_bad_input_is_one_line(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", *words]) == 2
    err = capsys.readouterr().err
    assert reason in err and err.count("\n") == 1
