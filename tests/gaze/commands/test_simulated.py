"""Check `sa2va gaze eval --world` and `--images`: output, and one line per kind of bad input."""

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("sa2va.world")
from sa2va.apps import cli
from sa2va.gaze.commands import simulated as gaze_world
from sa2va.gaze.evaluation.bars import Bar
from sa2va.gaze.evaluation.simulated import DelayCurve, SimulatedReport
from sa2va.gaze.evaluation.table import Row
from sa2va.world.scenes.splits import DEV, SPLITS, Split

REPORT = SimulatedReport(
    rows=[
        Row(name="oracle likelihood (upper bound)", kind="people", num_cases=10, figures={"bits": 3.5}),
        Row(
            name="event decoder on Sa2VA",
            kind="baseline",
            num_cases=10,
            figures={"bits": 3.2, "last hit": 0.9, "saccade EMD": math.nan},
        ),
    ],
    bars={
        "event decoder on Sa2VA": [
            Bar(name="bits below", value=0.31, wanted="<= 0.3", ok=False, low=0.2, high=0.4, open=True),
            Bar(name="last hit", value=0.97, wanted=">= 0.95", ok=True),
        ]
    },
    delays=[DelayCurve(0.0, {-50.0: 3.1, 0.0: 3.2, 50.0: 3.1})],
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[gaze_world.WorldRequest]:
    requests: list[gaze_world.WorldRequest] = []
    monkeypatch.setattr(gaze_world, "run", lambda asked, folder, tell: requests.append(asked) or REPORT)
    return requests


def test_a_table_and_what_it_should_reach(
    asked: list[gaze_world.WorldRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gaze", "eval", "--world", "--items", "10", "--seed", "3", "--plots", str(tmp_path / "plots")]
    words += ["--jobs", "2", "--device", "cpu", "--dtype", "float32"]
    assert cli.main(words) == 0
    told, remarks = capsys.readouterr()
    assert "10 expressions of split dev, seed 3; nine people each, 9 samples." in told
    assert "oracle likelihood (upper bound)" in told and "about" in told and "best" in told
    assert (asked[0].items, asked[0].drawn, asked[0].jobs) == (10, Split(DEV.name, 3), 2)
    choice = asked[0].choice
    assert (choice.model, choice.device, choice.dtype) == ("tiny", "cpu", "float32")
    assert remarks.count("wrote") == 4 and (tmp_path / "plots" / "bits.png").is_file()


def test_json_has_every_figure(asked: list[gaze_world.WorldRequest], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gaze", "eval", "--world", "--items", "10", "--json", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert record["rows"][1]["figures"] == {"bits": 3.2, "last hit": 0.9, "saccade EMD": None}
    assert record["bars"]["event decoder on Sa2VA"][0]["ok"] is False
    assert record["bars"]["event decoder on Sa2VA"][0]["low"] == 0.2
    assert (record["split"], record["seed"], record["passed"]) == ("dev", DEV.seed, False)
    assert record["delays"][0]["best"] == pytest.approx(0, abs=1e-6)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_a_report_is_one_split_and_a_missed_bar_fails_the_check(
    asked: list[gaze_world.WorldRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gaze", "eval", "--world", "--split", "report", "--check", "-o", str(tmp_path / "out"), "--quiet"]
    assert cli.main(words) == 1
    assert asked[0].drawn == SPLITS["report"] and asked[0].samples == 9
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["report.json", "table.md"]
    record = json.loads((tmp_path / "out" / "report.json").read_text(), parse_constant=refuse)
    assert (record["split"], record["seed"], record["samples"]) == ("report", SPLITS["report"].seed, 9)
    page = (tmp_path / "out" / "table.md").read_text()
    assert "| event decoder on Sa2VA | 3.20 |" in page
    assert "| event decoder on Sa2VA: bits below | 0.310 [0.200, 0.400] | <= 0.3 |" in page
    capsys.readouterr()
    assert cli.main(words[:5]) == 0  # without --check the exit code tells only whether it ran


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "people.json"
    data.write_text("[]")
    for words, wrong in (
        (["--world", "--data", str(data)], "give one of --data FILE, --world and --golden FOLDER"),
        ([], "give one of --data FILE, --world and --golden FOLDER"),
        (["--world", "--gaze", str(tmp_path)], "has no gaze.json"),
        (["--world", "--items", "3"], "--items"),
        (["--world", "--split", "test"], "split 'test' is unknown: use one of dev, report"),
        (["--world", "--split", "report", "--seed", "3"], "seed 3: split report has one seed"),
        (["--world", "-o", str(data)], "people.json is a file; expected a folder"),
        (["--world", "--jobs", "0"], "--jobs"),
        (["--data", str(data), "--oracle-target", "--check"], "--check: cannot be combined with --data"),
        (["--data", str(data), "--oracle-target", "--split", "dev"], "--split: cannot be combined with --data"),
        (["--golden", str(tmp_path), "-o", str(tmp_path / "out")], "--output: cannot be combined with --golden"),
        (["--golden", str(tmp_path), "--device", "cpu"], "--device: cannot be combined with --golden"),
        (["--world", "--plots", str(data)], "people.json is a file; expected a folder"),
        (["--world", "--store", str(data / "heard")], "people.json is a file; expected a folder"),
    ):
        assert cli.main(["gaze", "eval", *words]) == 2
        told = capsys.readouterr().err
        assert wrong in told and told.count("\n") == 1
