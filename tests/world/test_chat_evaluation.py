"""Check that all chat benchmarks run on drawn scenes with the embedded model and a judge on this machine."""

import json
from pathlib import Path

import pytest
from support.judge_server import Server, compare

from sa2va.apps import cli

pytestmark = pytest.mark.slow
NAMES = ("mme", "mmbench", "seedbench", "videomme", "mmbench_video")


def test_all_run_resume_and_are_scored_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lmms_eval")
    data, out, server = str(tmp_path / "data"), tmp_path / "out", Server(compare)
    layouts = [part for name in NAMES for part in ("--as", name)]
    assert cli.main(["world", "export", *layouts, "--items", "5", "--split", "dev", data]) == 0
    command = ["eval", "tiny", "--benchmarks", ",".join(NAMES), "--data", data, "-o", str(out), "--quiet", "--json"]
    capsys.readouterr()
    assert cli.main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert len(first["benchmarks"]) == 5 and "mmbench_video/test" not in first["benchmarks"]  # no judge yet
    assert cli.main([*command, "--judge", server.url, "--judge-model", "local"]) == 0
    report = json.loads(capsys.readouterr().out)["benchmarks"]
    values = {name: next(iter(figures.values())) for name, figures in report.items()}
    assert {name: figure["num_items"] > 0 for name, figure in values.items()} == dict.fromkeys(values, True)
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    rated = [line["record"]["rating"] for line in lines if line["benchmark"] == "mmbench_video/test"]
    assert values["mmbench_video/test"]["value"] == pytest.approx(sum(rated) / len(rated)) and 3 in rated
    num_asked, lines = len(server.requests), (out / "answers-1-of-1.jsonl").read_bytes()
    server.close()
    assert cli.main(["score", str(out), "--json"]) == 0  # neither model nor judge
    assert json.loads(capsys.readouterr().out)["benchmarks"] == report
    assert len(server.requests) == num_asked and (out / "answers-1-of-1.jsonl").read_bytes() == lines
