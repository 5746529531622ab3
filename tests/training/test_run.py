"""Check that a run trains its stages in order, saves the model, and does nothing when repeated."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.small_model import build_model
from support.small_stage import CONFIG, SmallRun, small_stages

from sa2va.checkpoints.folder import load_checkpoint
from sa2va.training.config import RunConfig
from sa2va.training.recipes import RECIPES
from sa2va.training.run import train


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SmallRun(name="small", output="out", stages=small_stages(), device="cpu")
    monkeypatch.setitem(RECIPES, "small", lambda: run)


def test_a_run_trains_saves_and_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train("small", output=str(tmp_path), quiet=True)
    model, _ = load_checkpoint(folder, torch.device("cpu"), torch.float32)
    start = build_model(seed=1)[0]
    assert (model.projector.fc2.bias == 7).all()
    assert not torch.equal(model.projector.fc1.weight, start.projector.fc1.weight.bfloat16().float())
    names = [line.split('"')[3] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert names == ["small1", "small2"]
    weights = (folder / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert train("small", ["save_every.small1=9"], str(tmp_path)) == folder
    assert capsys.readouterr().err == f"{folder}: done already, nothing was written\n"
    os.truncate(folder / "model.safetensors", 0)
    train("small", output=str(tmp_path), quiet=True)  # from the final weights of its stages
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["validate_every.small1=5"], "stage small1 has no validation; leave out validate_every.small1"),
        (["output=elsewhere"], "override 'output=elsewhere': the output is given as"),
        (["seed.small2=3"], "a stage has no seed of its own; set that of the run: seed=3"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(words: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        train("small", words, output=str(tmp_path / "run"), quiet=True)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_from_nothing_needs_a_recipe_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = RunConfig(name="bare", output="out", stages=(replace(CONFIG, steps=1),), device="cpu")
    monkeypatch.setitem(RECIPES, "bare", lambda: run)
    with pytest.raises(ValueError, match="run bare needs a model to start from; set start="):
        train("bare", output=str(tmp_path), quiet=True)
    with pytest.raises(ValueError, match="recipe 'huge' is unknown"):
        train("huge")
