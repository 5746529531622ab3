"""Check `sa2va gaze eval`: table, JSON, exit codes, and one line per kind of bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa2va.apps import cli


def person(case: int, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Build a record of two words: one fixation before, one per word, and one after them on the target."""
    goal = np.array([60 + 80 * case, 80.0])
    points = np.array([256, 160]) + np.array([0, 0.3, 0.7, 1])[:, None] * (goal - [256, 160]) + rng.normal(0, 5, (4, 2))
    return {
        "REF_ID": case, "SUBJECT_ID": name, "IMAGEFILE": f"{case}.jpg", "IMG_URL": f"photo{case // 2}",
        "REF_SENTENCE": "red cup", "REF_WORDS": ["red", "cup"], "BBOX": [goal[0] - 30, 50, 60, 60],
        "SOUND_ON": 200, "TARGET_SPOKEN_PERIOD": [500, 700], "BUTTON_PRESS_TIME": 1500, "NATIVE_SPEAKER": True,
        "FIX_X": points[:, 0].tolist(), "FIX_Y": points[:, 1].tolist(), "FIX_START": [50, 300, 600, 1000],
        "FIX_DURATION": [150, 200, 200, 300], "FIX_WORDINDEX": [-99, 0, 1, 99],
    }  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "people_512.json"
    path.write_text(json.dumps([person(case, name, rng) for case in range(6) for name in "abc"]))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    record = {"word_onset": [50, 260], "word_end": [250, 600], "sentence_duration": 600}
    path = tmp_path / "words.json"
    path.write_text(json.dumps([{"ref_id": case, **record} for case in range(6)]))
    return path


@pytest.fixture
def predictions(tmp_path: Path, data: Path) -> Path:
    """Write the scanpaths of observer a as predictions; one case is left out."""
    records = [record for record in json.loads(data.read_text()) if record["SUBJECT_ID"] == "a" and record["REF_ID"]]
    named = [
        {
            "REF_ID": record["REF_ID"],
            "REPEAT_ID": 0,
            "X": [[x] for x in record["FIX_X"]],
            "Y": [[y] for y in record["FIX_Y"]],
        }
        for record in records
    ]
    path = tmp_path / "system.json"
    path.write_text(json.dumps(named))
    return path


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    assert cli.main(["gaze", "eval", *arguments, "--samples", "2", "--json", "--quiet"]) == 0
    told = capsys.readouterr()
    assert not told.err
    report = json.loads(told.out)
    return report, {row["name"]: row for row in report["rows"]}


def test_one_table(
    data: Path, words: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data), "--words", str(words), "--oracle-target", "--no-learned", "--samples", "2"]
    options += ["--predictions", str(predictions), "-o", str(tmp_path / "out")]
    assert cli.main(["gaze", "eval", *options]) == 0
    told = capsys.readouterr()
    assert "6 cases, 18 scanpaths" in told.out and "straight line" in told.out
    assert "5 of 6 cases" in told.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    system = rows[str(predictions)]
    assert system["cases"] == 5 and system["figures"]["last hit"] == 1
    assert rows["straight line to the target"]["figures"]["last hit"] == 1
    assert rows["random"]["figures"]["bits"] == pytest.approx(0, abs=1e-9)
    assert {"people, one left out", "center", "human of another image", "previous fixation + target box"} <= set(rows)
    ladder = ["center bias", "center bias by word", "previous fixation", "previous fixation + target box"]
    bits = [rows[name]["figures"]["bits"] for name in ladder]
    assert bits[3] > bits[2] > bits[0] > 0
    assert len(report["clusters"]) == 6 and report["clusters"]["0"]["centers"]


def test_a_folder_gets_the_table_and_every_figure(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gaze", "eval", "--data", str(data), "--oracle-target", "--no-learned", "--samples", "2", "--quiet"]
    assert cli.main([*words, "--jobs", "1", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    low, high = rows["previous fixation"]["intervals"]["bits"]
    assert low <= rows["previous fixation"]["figures"]["bits"] <= high
    page = (tmp_path / "out" / "table.md").read_text()
    assert page.startswith("6 cases, 18 scanpaths, 2 samples of each case.\n\n| system | bits | above ref |")
    assert page.count("| previous fixation |") == 3 and "above the strongest reference" in printed
    assert "in the picture" not in page  # photos are not known to have bars


def test_more_files_follow_without_a_name(data: Path, predictions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = predictions.with_name("second.json")
    other.write_bytes(predictions.read_bytes())
    _, rows = run_json(capsys, "--data", str(data), "--predictions", str(predictions), str(other))
    assert rows[str(other)]["figures"] == rows[str(predictions)]["figures"]
    assert "previous fixation + target box" not in rows and "straight line to the target" in rows


def test_another_number_of_packs_is_scored_and_told(
    data: Path, predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer, more, *rest = json.loads(predictions.read_text())
    for axis in "XY":
        fewer[axis].pop()
        more[axis].append([1.0])
    predictions.write_text(json.dumps([fewer, more, *rest]))
    words = ["gaze", "eval", "--data", str(data), "--predictions", str(predictions), "--no-learned", "--samples", "2"]
    assert cli.main(words) == 0
    told = capsys.readouterr().err
    assert (
        f"{predictions}: 2 of 5 scanpaths have another number of packs" in told and told.count("number of packs") == 1
    )


def test_recorded_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"a": [1, 2], "b": [1], "nw": 0.5, "nw_gap-0.5": 0.25, "lev": 1, "lev_sub2": 1}
    (tmp_path / "inputs.json").write_text('{"cases": []}')
    (tmp_path / "outputs.json").write_text('{"cases": []}')
    path = tmp_path / "string_primitives.json"
    path.write_text(json.dumps([record]))
    assert cli.main(["gaze", "eval", "--golden", str(tmp_path)]) == 0
    assert "4 of 4 metrics are within 1e-06" in capsys.readouterr().out
    path.write_text(json.dumps([record | {"lev": 2}]))
    assert cli.main(["gaze", "eval", "--golden", str(tmp_path)]) == 1
    assert "3 of 4 metrics" in capsys.readouterr().out
    assert cli.main(["gaze", "eval", "--golden", str(tmp_path), "--json"]) == 1
    wrong = [row for row in json.loads(capsys.readouterr().out) if not row["ok"]]
    assert wrong == [{"metric": "edit distance", "values": 1, "largest": 1.0, "where": "record 0", "ok": False}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--data"),
        (["--data", "{data}", "--golden", "."], "--golden"),
        (["--data", "{data}"], "--oracle-target"),
        (["--golden", ".", "--oracle-target"], "--oracle-target: cannot be combined with --golden"),
        (["--golden", ".", "--images", "."], "--images: cannot be combined with --golden"),
        (["--golden", ".", "--no-learned"], "--learned: cannot be combined with --golden"),
        (["--golden", ".", "--seed", "0"], "--seed: cannot be combined with --golden"),
        (["--world", "--predictions", "{data}"], "--predictions: cannot be combined with --world"),
        (["--world", "{data}"], "people_512.json: cannot be combined with --world"),
        (["--world", "--words", "{data}"], "--words: cannot be combined with --world"),
        (["--data", "{data}", "--oracle-target", "--plots", "."], "--plots: cannot be combined with --data"),
        (["--data", "{folder}/none.json", "--oracle-target"], "none.json"),
        (["--golden", "{folder}/none"], "not a folder"),
        (["--data", "{data}", "--predictions", "{data}"], "X is missing"),
        (["--data", "{data}", "--oracle-target", "--words", "{data}"], "ref_id is missing"),
        (["--data", "{data}", "--oracle-target", "--folds", "1"], "folds"),
    ],
)
def test_bad_input(arguments: list[str], words: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled = [word.format(data=data, folder=data.parent) for word in arguments]
    assert cli.main(["gaze", "eval", *filled]) == 2
    told = capsys.readouterr()
    assert words in told.err and told.err.count("\n") == 1 and not told.out
