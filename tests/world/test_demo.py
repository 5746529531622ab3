"""Check the demo on synthetic scenes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sa2va.evaluation.stamp  # noqa: F401 - before a fixture replaces the find_model that it imports
from sa2va.apps import cli


@pytest.fixture(autouse=True)
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find a model folder without weights of other extensions."""
    monkeypatch.setattr("sa2va.checkpoints.find.find_model", lambda name, **options: tmp_path)


def test_writes_one_page_and_the_files_beside_it(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(out), "--seed", "2", "--items", "0"]) == 0
    told = capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert "index.html" in told and "Chat" in told and "seed 2" in page
    assert page.count("<video") == 4 and "<table" not in page
    assert Image.open(out / "contact_sheet.png").width > 1000
    assert len(list((out / "pictures").iterdir())) == page.count("<img")


def test_measures_anew(
    toy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sa2va.evaluation.stamp.hash_files", lambda folder, files: "0123")
    out = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(out), "--seed", "2", "--items", "1", "--quiet"]) == 0
    page = (out / "index.html").read_text()
    assert "Measured just now" in page and "IoU of the union" in page
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_demo_of_drawn_scenes_says_nothing(tmp_path: Path) -> None:
    words = ["demo", "--items", "0", "--seed", "1", "-o", str(tmp_path / "demo")]
    result = subprocess.run([sys.executable, "-m", "sa2va.apps.cli", *words], capture_output=True, text=True)
    assert result.returncode == 0 and "embedded model knows" not in result.stderr
