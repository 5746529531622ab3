"""Check `sa2va gaze eval --world` and `--images`: what is printed, and one line for what is wrong."""

import json
from pathlib import Path

import pytest

from sa2va.apps import cli
from sa2va.apps.commands import gaze_world
from sa2va.gaze.evaluation.drawn import Bar, DelayCurve, DrawnReport
from sa2va.gaze.evaluation.table import Row

REPORT = DrawnReport(
    rows=[
        Row(name="the people's own law", kind="people", num_cases=10, figures={"bits": 3.5}),
        Row(name="event decoder on Sa2VA", kind="rival", num_cases=10, figures={"bits": 3.2, "last hit": 0.9}),
    ],
    bars={"event decoder on Sa2VA": [Bar(name="bits below", value=0.3, wanted="<= 0.3", ok=True)]},
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
    assert cli.main(words) == 0
    told, remarks = capsys.readouterr()
    assert "the people's own law" in told and "ok  bits below: 0.300 (wanted <= 0.3)" in told and "best +0 ms" in told
    assert (asked[0].items, asked[0].seed, asked[0].model) == (10, 3, "tiny")
    assert remarks.count("wrote") == 4 and (tmp_path / "plots" / "bits.png").is_file()


def test_json_has_every_figure(asked: list[gaze_world.WorldRequest], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gaze", "eval", "--world", "--items", "10", "--json", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["rows"][1]["figures"] == {"bits": 3.2, "last hit": 0.9}
    assert record["bars"]["event decoder on Sa2VA"][0]["ok"] is True
    assert record["delays"][0]["best"] == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "people.json"
    data.write_text("[]")
    for words, wrong in (
        (["--world", "--data", str(data)], "give one of --data FILE, --world and --golden FOLDER"),
        ([], "give one of --data FILE, --world and --golden FOLDER"),
        (["--world", "--gaze", str(tmp_path)], "has no gaze.json"),
        (["--world", "--items", "3"], "--items"),
        (["--world", "--plots", str(data)], "people.json is a file; expected a folder"),
        (["--world", "--store", str(data / "heard")], "people.json is a file; expected a folder"),
    ):
        assert cli.main(["gaze", "eval", *words]) == 2
        told = capsys.readouterr().err
        assert wrong in told and told.count("\n") == 1
