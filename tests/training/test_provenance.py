"""Check the record beside trained weights: command, commit, seed, steps and hours, over an interruption."""

import json
import subprocess
from pathlib import Path

import pytest
from support.small_stage import SmallRun, small_stages

from sa2va.training import provenance, run
from sa2va.training.provenance import RECORD_FILE, find_commit, write_record
from sa2va.training.recipes import RECIPES
from sa2va.training.run import train
from sa2va.training.state import STATE_FILE


def test_a_trained_model_names_its_command_commit_seed_and_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SmallRun(name="small", output="out", stages=small_stages(), device="cpu")
    monkeypatch.setitem(RECIPES, "small", lambda: config)
    folder = train("small", ["seed=3", "steps.small1=2"], str(tmp_path), quiet=True)
    record = json.loads((folder / RECORD_FILE).read_text())
    assert record["command"] == "sa2va train small seed=3 steps.small1=2"
    assert (record["seed"], record["start"]) == (3, config.start or None)
    assert [(stage["name"], stage["steps"]) for stage in record["stages"]][0] == ("small1", 2)
    assert record["hours"] == pytest.approx(sum(stage["hours"] for stage in record["stages"]), abs=2e-3)
    state = json.loads((tmp_path / "small1" / "final" / STATE_FILE).read_text())
    assert record["stages"][0]["commit"] == state["record"]["commit"] == find_commit() == record["commit"]


def test_a_run_that_began_before_commits_were_recorded_ends_with_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SmallRun(name="small", output="out", stages=small_stages(), device="cpu")
    monkeypatch.setitem(RECIPES, "small", lambda: config)
    folder = train("small", [], str(tmp_path), quiet=True)
    file = tmp_path / "small1" / "final" / STATE_FILE
    state = json.loads(file.read_text())
    del state["record"]["commit"]
    file.write_text(json.dumps(state))
    write_record(config, tmp_path, "sa2va train small")
    record = json.loads((folder / RECORD_FILE).read_text())
    assert record["stages"][0]["commit"] is None and record["commit"] == find_commit()


def test_the_commit_is_found_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SmallRun(name="small", output="out", stages=small_stages(), device="cpu")
    order: list[str] = []
    stages = run._run_stages
    monkeypatch.setattr(run, "find_commit", lambda: order.append("commit"))
    monkeypatch.setattr(run, "_run_stages", lambda *given: order.append("stages") or stages(*given))
    run.train_run(config, tmp_path, quiet=True)
    assert order == ["commit", "stages"]


def git(folder: Path, *words: str) -> str:
    named = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(named, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_package_and_says_what_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance.sa2va, "__file__", str(package / "__init__.py"))
    find = find_commit.__wrapped__
    assert find() is None
    git(tmp_path, "init", "-q")
    assert find() is None  # untracked: it lies within a repository of somebody else
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    assert find() == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "elsewhere.txt").write_text("")
    assert find() == git(tmp_path, "rev-parse", "HEAD")
    (package / "__init__.py").write_text("1")
    assert find() == git(tmp_path, "rev-parse", "HEAD") + "-dirty"
