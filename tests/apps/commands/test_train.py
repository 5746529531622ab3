"""Check `sa2va train --dry-run`."""

import json
from functools import cache, partial

import pytest
from support.small_model import draw_sample

from sa2va.apps.cli import main
from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.training import plan
from sa2va.training.mixture import DatasetShare
from sa2va.training.recipes import RECIPES
from sa2va.training.supervised import SupervisedConfig, SupervisedRun


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.DATASETS, "pictures", partial(Generated, draw_sample))
    stage = SupervisedConfig(
        name="supervised", steps=10, batch_size=2, datasets=(DatasetShare(name="pictures", weight=1),), lora_rank=2,
        gradient_checkpointing=True, halves_frozen=True, new_tokens="rows",
    )  # fmt: skip
    run = SupervisedRun(name="small", output="", start="tiny", stages=(stage,), device="cpu")
    monkeypatch.setitem(RECIPES, "small", lambda: run)


def test_a_dry_run_prints_tables_or_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(plan, "plan_run", cache(plan.plan_run))
    assert main(["train", "small", "--dry-run", "steps=20", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["steps"] == 20 and stage["memory"]["as configured"]["activations"] > 0
    assert main(["train", "small", "--dry-run", "steps=20"]) == 0
    shown = capsys.readouterr().out
    for words in ("20 steps of 2 samples", "mask_decoder", "as configured", "share drawn", "endless"):
        assert words in shown


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--json"], "--json and --processes belong to --dry-run"),
        (["--dry-run", "start=nowhere"], "no model 'nowhere'"),
        (["--dry-run", "datasets+=refcoco:weight=1"], "dataset refcoco needs files: set data=ROOT"),
    ],
)
def test_bad_input_is_one_line(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "small", *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
