"""Check the command that compares two evaluations: table, JSON, remarks, exit codes."""

import json
from pathlib import Path

import pytest
from support.fake_answers import STAMP, FakePredictor, say_nothing, tell_truth

from sa2va.apps.cli import BAD_INPUT, DONE, main
from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.runner import evaluate


@pytest.fixture
def folders(tmp_path: Path, small_benchmarks: None) -> tuple[str, str]:
    for name, reply, limit in (("a", tell_truth, 4), ("b", say_nothing, 5)):
        benchmark = rebuild("squares", Selection(split="dev", limit=limit))
        evaluate(FakePredictor(benchmark, reply), [benchmark], STAMP, folder=tmp_path / name)
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_table_and_remarks(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *folders]) == DONE
    said = capsys.readouterr()
    words = said.out.split()
    assert {"cIoU,", "first:", "second:", "-1.000"} <= set(words) and "\\n" not in said.out
    assert said.err == "squares: 1 items only of the second are left out: 4\n"


def test_json(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *folders, "--json", "-b", "squares"]) == DONE
    found = json.loads(capsys.readouterr().out)["benchmarks"]["squares"]
    assert found["num_items"] == 4
    assert found["figures"]["cIoU, squares"]["difference"] == {"value": -1.0, "low": -1.0, "high": -1.0, "p": 0.125}


def test_a_folder_without_answers_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1
