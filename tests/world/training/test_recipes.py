"""Check that finished runs write nothing, changes and damage are noticed, and every setting has an effect."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small_families import build_family

import sa2va
from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.inference.embedded import drawn_scenes
from sa2va.training.provenance import RECORD_FILE
from sa2va.training.recipes import RECIPES, find_recipe
from sa2va.training.run import train
from sa2va.world.tasks.catalog import TASKS
from sa2va.world.training.encoders import VisionConfig
from sa2va.world.training.recipes import TinyRun


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = VisionConfig(name="vision", steps=1, batch_size=1, lr=1e-3, num_workers=0)
    # One thread: initial weights that no stage trains differ in their last bits between numbers of threads.
    short = TinyRun(name="short", output="out", stages=(stage,), device="cpu", threads=1, calibration=0)
    monkeypatch.setitem(RECIPES, "short", lambda: short)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and change time of every file in a folder, to detect writes."""
    return {path.as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_a_finished_run_writes_nothing_and_one_that_is_not_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "run" / "model", str(tmp_path / "run")
    assert train("short", output=run, quiet=True) == folder
    before, weights = snapshot(tmp_path), (folder / "model.safetensors").read_bytes()
    for words in ([], ["save_every.vision=7", "threads=2"]):  # saving more often does not change the result
        assert train("short", words, output=run) == folder
        assert capsys.readouterr().err == f"{folder}: done already, nothing was written\n"
    assert snapshot(tmp_path) == before
    with pytest.raises(ValueError, match="seed of stage vision was 0 and is now 1"):
        train("short", ["seed=1"], output=run, quiet=True)
    os.truncate(folder / "model.safetensors", 0)
    train("short", output=run, quiet=True)
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["output=elsewhere"], "override 'output=elsewhere': the output is given as run already"),
        (["seed.vision=3"], "a stage has no seed of its own; set that of the run: seed=3"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        train("short", words, output="run")
    assert str(caught.value).startswith(told) or told in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(ValueError, match="recipe 'huge' is unknown: use one of sa2va_1b, .*, short, tiny"):
        train("huge")


@pytest.mark.parametrize("family", ["internvl_internlm2", "qwen3_vl"])
def test_one_recipe_trains_random_models_of_other_families(family: str, tmp_path: Path) -> None:
    model, processor = build_family(family)
    save_checkpoint(model, processor.tokenizer, tmp_path / family, torch.float32)
    words = [
        f"start={tmp_path / family}", "device=cpu", "steps.supervised=20", "batch_size.supervised=2",
        "warmup_steps.supervised=2",
        "lr.supervised=3e-3", "lora_rank.supervised=4", "num_frames.supervised=2", "losses.num_points.supervised=200",
        "log_every.supervised=5", "num_workers.supervised=0", "autocast.supervised=false",
    ]  # fmt: skip
    folder = train("world_supervised", words, output=str(tmp_path / "run"), quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    totals = [line["losses"]["total"] for line in lines if "losses" in line]
    assert len(totals) == 4 and totals[-1] < totals[0], totals
    load_checkpoint(folder, torch.device("cpu"), torch.float32)  # adapters are merged: an ordinary model


@pytest.mark.slow
def test_the_embedded_model_is_trained_from_nothing_by_one_command(tmp_path: Path) -> None:
    stages = [stage.name for stage in find_recipe("tiny")().stages]
    assert stages == [
        "vision", "sam_vision", "masks", "tracking", "language", "cotrain", "packed", "motion", "clips",
    ]  # fmt: skip
    words = [f"steps.{name}=2" for name in stages] + [f"batch_size.{name}=1" for name in stages]
    words += ["num_clips.motion=4", "num_workers.packed=0", "calibration=50", "device=cpu"]
    folder = train("tiny", words, output=str(tmp_path / "run"), quiet=True)
    record = json.loads((folder / RECORD_FILE).read_text())
    assert [stage["name"] for stage in record["stages"]] == stages and record["start"] is None
    assert sa2va.load(folder).predict(np.zeros((64, 64, 3), np.uint8), "Please describe the image.").text


def test_a_run_that_goes_on_has_a_token_per_key_frame_and_the_same_answers_about_pictures(tmp_path: Path) -> None:
    run = replace(find_recipe("tiny_motion")(), stages=())
    assert isinstance(run, TinyRun) and run.seg_design == "repeat"
    model, processor = run.build_model(tmp_path)
    save_checkpoint(model, processor.tokenizer, tmp_path / "model", torch.float32)
    grown, packaged = sa2va.load(tmp_path / "model"), sa2va.load("tiny")
    sample = TASKS["refseg"](3, "train", 0)
    for turn in sample.turns:
        with drawn_scenes():
            answers = [one.predict(sample.frames[0], turn.question) for one in (grown, packaged)]
        assert answers[0].text == answers[1].text
        np.testing.assert_array_equal(answers[0].masks, answers[1].masks)
    clip = TASKS["video_refseg"](3, "train", 0)
    turns = [len(processor.encode_answer(turn, 4)[0]) - len(processor.encode_answer(turn, 1)[0]) for turn in clip.turns]
    assert turns == [3 * sum(len(span.objects) for span in turn.spans) for turn in clip.turns] and any(turns)
