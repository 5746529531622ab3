"""Check the demo from the command line to the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.extension_fixtures import Register

import sa2va.evaluation.stamp  # noqa: F401 - before a fixture replaces the find_model that it imports
from sa2va.apps import cli
from sa2va.apps.commands.demo import read_card

CARD = {"benchmarks": {"squares": {"cIoU, squares": {"value": 0.123}}}}


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(CARD))
    monkeypatch.setattr("sa2va.checkpoints.find.find_model", lambda name, **options: folder)
    return folder


SHOW = """
EXHIBITS = {"one": "one_for_test.extension:show"}
def show(predictor, folder, seed, scratch):
    from sa2va.apps.demo.page import Exhibit
    import numpy as np
    yield Exhibit(section="Ours", title=f"seed {seed}", picture=np.zeros((8, 8, 3), np.uint8))
"""


def test_exhibits_of_an_extension_become_one_page_and_the_files_beside_it(
    toy: Any, register: Register, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(one=SHOW)
    out = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(out), "--seed", "2", "--items", "0"]) == 0
    told = capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert "index.html" in told and "Ours" in told and "seed 2" in page
    assert page.count("<img") == 1 and "<video" not in page and "<table" not in page
    assert (out / "contact_sheet.png").is_file() and len(list((out / "pictures").iterdir())) == 1


def test_measures_anew_beside_the_card(
    toy: Any,
    register: Register,
    small_benchmarks: None,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register(one=SHOW)
    out = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(out), "--seed", "2", "--items", "1", "--quiet"]) == 0
    page = (out / "index.html").read_text()
    assert "Measured just now" in page and "Squares" in page and "0.12" in page
    assert capsys.readouterr() == ("", "")


def test_without_extensions_own_media_are_shown_and_what_is_missing_is_said(
    toy: Any, register: Register, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(gone=None)
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "photo.png")
    out = ["-o", str(tmp_path / "demo")]
    assert cli.main(["demo", *out, "--media", str(tmp_path / "photo.png")]) == 0
    told, remarks = capsys.readouterr()
    assert "Your own" in told and remarks.count("left out, since the extensions are not installed: gone\n") == 1
    assert (tmp_path / "demo" / "index.html").is_file()
    assert cli.main(["demo", *out]) == 2
    error = capsys.readouterr().err
    assert error == "sa2va: the demo needs the extensions gone, which are not installed; add --media PATH\n"


def test_own_media_come_with_a_warning(
    toy: Any,
    register: Register,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register()
    monkeypatch.setattr("sa2va.inference.embedded._warned", False)
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "photo.png")
    words = ["demo", "-o", str(tmp_path / "demo"), "--items", "0", "--media", str(tmp_path / "photo.png")]
    assert cli.main(words) == 0
    told, remarks = capsys.readouterr()
    assert remarks.count("sa2va segment") == 1 and "ByteDance/Sa2VA-4B" in remarks
    assert "Your own" in told


def test_a_card_may_be_missing(tmp_path: Path, model_folder: Path) -> None:
    assert read_card(tmp_path) == {}
    assert read_card(model_folder) == {("squares", "cIoU, squares"): 0.123}


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"benchmarks": 1}', '{"benchmarks": {"x": {"y": {}}}}', "[" * 100_000, ""]
)
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
