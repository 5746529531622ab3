"""Check `sa2va data check`: table, exit codes, and one line per kind of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sa2va.apps import cli
from sa2va.data.check import Expected
from sa2va.gaze import catalog, statistics


def write_osie(folder: Path, people: int = 15) -> Path:
    """Write a file in OSIE's JSON layout: one picture, nine fixations of 213 ms each."""
    looks = [{"subject": k, "x": [400.0] * 9, "y": [300.0] * 9, "duration": [213.0] * 9} for k in range(people)]
    path = folder / "fixations.json"
    path.write_text(json.dumps({"images": {"1001.jpg": {"width": 800, "height": 600, "scanpaths": looks}}}))
    return path


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = cli.main(["data", "check", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_osie(tmp_path)
    assert cli.main(["data", "check", "osie", str(path)]) == 0
    told = capsys.readouterr().out
    assert "3 of 3 figures are as expected" in told
    (line,) = [line for line in told.splitlines() if line.startswith("fixations per scanpath")]
    assert line.split()[-4:] == ["9", "9.5", "0.9", "ok"]
    assert "saccade median" in told  # nothing is known of it, and it is shown


def test_a_figure_that_is_off_is_a_failed_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_osie(tmp_path, people=3)
    assert cli.main(["data", "check", "osie", str(path)]) == 1
    assert "2 of 3 figures are as expected" in capsys.readouterr().out
    code, report = run_json(capsys, "osie", str(path))
    assert code == 1 and report["passed"] is False and report["name"] == "osie"
    assert report["figures"]["people per case"] == 3
    (wrong,) = [row for row in report["checks"] if not row["ok"]]
    assert wrong == {"name": "people per case", "value": 3, "expected": 15, "tolerance": 0.01, "ok": False}


def test_a_folder_means_the_file_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_osie(tmp_path)
    assert run_json(capsys, "osie", str(tmp_path))[0] == 0


def test_a_figure_that_the_data_lacks_is_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(statistics.EXPECTED, "osie", {"latency median, ms": Expected(840, 120)})
    path = str(write_osie(tmp_path))
    code, report = run_json(capsys, "osie", path)
    assert code == 1 and report["checks"][0]["value"] is None
    assert cli.main(["data", "check", "osie", path]) == 1
    assert "0 of 1 figures" in capsys.readouterr().out


def test_the_drawn_world_needs_no_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}
    monkeypatch.setitem(statistics.EXPECTED, "world", {})
    real = catalog.DATASETS["world"]
    monkeypatch.setitem(catalog.DATASETS, "world", lambda **n: asked.update(n) or real(**n, people_per_case=2))
    code, report = run_json(capsys, "world", "--seed", "3", "--items", "4")
    assert code == 0 and asked == {"seed": 3, "num_cases": 4}
    assert report["figures"]["scanpaths"] == 8 and report["figures"]["last fixation on target"] == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nope"], ", refcoco_gaze, coco_search18, osie, world"),
        (["osie"], "osie is read from a file"),
        (["osie", "FOLDER/missing.json"], "missing.json: there is no such file"),
        (["osie", "FOLDER"], "expected one file fixations.mat or fixations.json, found none"),
        (["osie", "/dev/zero"], "/dev/zero: not a regular file"),
        (["refcoco_gaze", "FOLDER/pipe.json"], "pipe.json: not a regular file"),
        (["osie", "FOLDER/text.json"], "text.json: no JSON"),
        (["refcoco_gaze", "FOLDER/empty.json"], "at least one record"),
        (["coco_search18", "FOLDER/records.json"], "record 0: name is missing"),
        (["world", "FOLDER"], "world is simulated and needs no file"),
        (["world", "--items", "0"], "--items"),
        ([], "NAME"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "text.json").write_text("no json")
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "records.json").write_text("[{}]")
    assert cli.main(["data", "check", *(word.replace("FOLDER", str(tmp_path)) for word in words)]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("sa2va: ") and error.count("\n") == 1 and named in error, error


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sa2va.gaze.catalog")
    monkeypatch.delitem(sys.modules, "sa2va.gaze.datasets.osie")
    monkeypatch.delitem(sys.modules, "sa2va.gaze.datasets.archives")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    assert cli.main(["data", "check", "osie", "x.json"]) == 2
    error = capsys.readouterr().err
    assert error == "sa2va: gaze needs scipy.io; run: pip install 'sa2va[gaze]'\n"


def test_help_imports_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["data", "--help"], ["data", "check", "--help"]):
        assert cli.main(words) == 0
        assert f"sa2va {' '.join(words[:-1])}" in capsys.readouterr().out
    code = (
        "import sys; from sa2va.apps.cli import main; main(['data', 'check', '--help']);"
        "print(sorted({'torch', 'transformers', 'numpy', 'scipy', 'sa2va.gaze.catalog'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
