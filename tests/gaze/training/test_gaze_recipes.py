"""Recipes of gaze training: named, overridden by words, run to gaze weights that load."""

from pathlib import Path

import pytest
import torch
from gaze_model import draw_picture
from small_model import build_model

from sa2va.gaze.predictor import load_gaze
from sa2va.gaze.training.recipes import GAZE_RECIPES, configure, train_gaze
from sa2va.model.checkpoint import save_checkpoint


@pytest.mark.parametrize("name", list(GAZE_RECIPES))
def test_every_recipe_is_a_configuration(name: str) -> None:
    config = configure(name, ["gaze.steps=7", "decoder.width=32", "beliefs=target", "losses.landing=0"])
    assert (config.name, config.gaze.steps, config.decoder.width, config.beliefs) == (name, 7, 32, "target")


def test_wrong_words_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="unknown gaze recipe 'huge'; known: tiny_gaze, published_gaze, "):
        configure("huge")
    with pytest.raises(ValueError, match="expected one of model, possible, target"):
        configure("tiny_gaze", ["beliefs=none"])
    with pytest.raises(ValueError, match="no setting 'gaze.step'"):
        configure("tiny_gaze", ["gaze.step=3"])


def test_a_short_run_gives_weights_that_load(tmp_path: Path) -> None:
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, tmp_path / "model", torch.float32)
    small = ["decoder.width=16", "decoder.place_width=8", "decoder.cell=32", "decoder.num_layers=1", "num_people=2"]
    words = [*small, f"start={tmp_path / 'model'}", "store.num_cases=4", "store.num_people=2"]
    words += [f"{stage}.{setting}" for stage in ("eyes", "gaze") for setting in ("steps=2", "batch_size=4")]
    folder = train_gaze("tiny_gaze", [*words, "device=cpu"], str(tmp_path / "run"), quiet=True)
    assert folder == tmp_path / "run" / "gaze"
    predictor = load_gaze(tmp_path / "model", gaze=folder, device="cpu")
    (path,) = predictor.predict(draw_picture(1)[0], "red circle", num_samples=1)
    assert path.fixations
    assert train_gaze("tiny_gaze", [*words, "device=cpu"], str(tmp_path / "run"), quiet=True) == folder
