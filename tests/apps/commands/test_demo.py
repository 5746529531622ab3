"""Check the demo from the command line to the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sa2va.evaluation.stamp  # noqa: F401 - before a fixture replaces the find_model that it imports
from sa2va.apps import cli
from sa2va.apps.commands.demo import read_card

CARD = {"sections": [{"name": "world/groups", "figures": [{"name": "IoU of the union", "value": 0.123}]}]}


@pytest.fixture(autouse=True)
def no_gaze(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy has no eyes; tests/apps/demo/test_gaze_exhibits.py looks at those."""
    monkeypatch.setattr("sa2va.gaze.exhibits.knows_gaze", lambda folder: False)


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(CARD))
    monkeypatch.setattr("sa2va.checkpoints.find.find_model", lambda name, **options: folder)
    return folder


def test_writes_one_page_and_the_files_beside_it(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(out), "--seed", "2", "--items", "0"]) == 0
    told = capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert "index.html" in told and "Chat" in told and "seed 2" in page
    assert page.count("<video") == 4 and "<table" not in page
    assert Image.open(out / "contact_sheet.png").width > 1000
    assert len(list((out / "pictures").iterdir())) == page.count("<img")


def test_measures_anew_beside_the_card(
    toy: Any, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(out), "--seed", "2", "--items", "1", "--quiet"]) == 0
    page = (out / "index.html").read_text()
    assert "Measured just now" in page and "IoU of the union" in page and "0.12" in page
    assert capsys.readouterr() == ("", "")


def test_own_media_come_with_a_warning(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sa2va.inference.embedded._said", False)
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "photo.png")
    words = ["demo", "-o", str(tmp_path / "demo"), "--items", "0", "--media", str(tmp_path / "photo.png")]
    assert cli.main(words) == 0
    told, remarks = capsys.readouterr()
    assert remarks.count("sa2va segment") == 1 and "ByteDance/Sa2VA-4B" in remarks
    assert "Your own" in told


def test_a_card_may_be_missing(tmp_path: Path, model_folder: Path) -> None:
    assert read_card(tmp_path) == {}
    assert read_card(model_folder) == {("world/groups", "IoU of the union"): 0.123}


@pytest.mark.parametrize("content", ["[]", "{", '{"sections": 1}', '{"sections": [{"name": "x"}]}', "[" * 100_000, ""])
def test_a_report_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=r"report.json: not a report of sa2va eval \(.*\); move it away") as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_input_is_never_replaced(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "contact_sheet.png"
    Image.new("RGB", (64, 48), "gray").save(source)
    before = source.read_bytes()
    assert cli.main(["demo", "-o", str(tmp_path), "--items", "0", "--media", str(source)]) == 2
    error = capsys.readouterr().err
    assert "contact_sheet.png is the input itself" in error and error.count("\n") == 1 and toy.asked == []
    assert source.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["contact_sheet.png"]
