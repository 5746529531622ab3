"""Check the recipes of gaze training: names, overrides, and runs whose gaze weights load."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("sa2va.world")
from gaze.support.gaze_model import draw_picture
from support.small_model import build_model

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import save_checkpoint
from sa2va.gaze.predictor import check_base_model, load_decoder, load_gaze, read_card
from sa2va.gaze.training import store as stores
from sa2va.gaze.training.recipes import GAZE_RECIPES, configure, train_gaze
from sa2va.inference.loading import load


@pytest.mark.parametrize("name", list(GAZE_RECIPES))
def test_every_recipe_is_a_configuration(name: str) -> None:
    config = configure(name, ["gaze.steps=7", "decoder.width=32", "losses.last_fixation=0"])
    assert (config.name, config.gaze.steps, config.decoder.width, config.losses.last_fixation) == (name, 7, 32, 0)


def test_wrong_words_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="unknown gaze recipe 'huge'; known: tiny_gaze, published_gaze, "):
        configure("huge")
    with pytest.raises(ValueError, match="expected one of model, possible, target"):
        configure("tiny_gaze", ["beliefs=none"])
    with pytest.raises(ValueError, match="no setting 'gaze.step'"):
        configure("tiny_gaze", ["gaze.step=3"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gaze.seed=3"], "a stage has no seed of its own; set that of the run: seed=3"),
        (["eyes.seed=3"], "a stage has no seed of its own; set that of the run: seed=3"),
        (["eyes.name=gaze"], "no setting 'eyes.name'"),
        (["prefix_weight=1"], "override 'prefix_weight': has no effect at lora_rank=0; leave it out"),
        (["lora_rank=4", "beliefs=target"], "override 'beliefs': has no effect at lora_rank=4; leave it out"),
        (["lora_rank=4", "gaze.validate_every=5"], "has no effect at lora_rank=4"),
        (["decoder.state_width=5"], "override 'decoder.state_width': comes from the model; leave it out"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        configure("tiny_gaze", words)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert configure("tiny_gaze", ["store.seed=3"]).store.seed == 3


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and change time of every file in a folder, to detect writes."""
    return {path.as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return settings for a run of seconds on a small model in `tmp_path / "model"`."""
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, tmp_path / "model", torch.float32)
    monkeypatch.setattr(stores, "SHARD", 4)
    small = ["decoder.width=16", "decoder.place_width=8", "decoder.cell=32", "decoder.num_layers=1", "num_people=2"]
    words = [*small, f"start={tmp_path / 'model'}", "store.num_cases=4", "store.num_people=2"]
    return words + [f"{stage}.{setting}" for stage in ("eyes", "gaze") for setting in ("steps=2", "batch_size=4")]


def test_a_short_run_gives_weights_that_load(tmp_path: Path, words: list[str]) -> None:
    folder = train_gaze("tiny_gaze", [*words, "device=cpu"], str(tmp_path / "run"), quiet=True)
    assert folder == tmp_path / "run" / "gaze"
    predictor = load_gaze(tmp_path / "model", gaze=folder, device="cpu")
    (path,) = predictor.predict(draw_picture(1)[0], "red circle", num_samples=1)
    assert path.fixations
    before = snapshot(tmp_path / "run")
    assert train_gaze("tiny_gaze", [*words, "device=cpu"], str(tmp_path / "run"), quiet=True) == folder
    assert snapshot(tmp_path / "run") == before, "a finished run writes nothing"
    with pytest.raises(ValueError, match="output is given as .* already"):
        train_gaze("tiny_gaze", [*words, "output=elsewhere"], str(tmp_path / "run"), quiet=True)


def test_a_chain_of_runs_documents_itself(tmp_path: Path, words: list[str]) -> None:
    """Each card contains the cards of all previous runs; a run of 0 steps returns its initial weights."""
    words = [*words, "device=cpu"]
    first = train_gaze("tiny_gaze", words, str(tmp_path / "first"), quiet=True)
    second = train_gaze(
        "tiny_gaze",
        [*words, f"ancestor={first}", "gaze.steps=0", "losses.stop_off_target=3"],
        str(tmp_path / "second"),
        quiet=True,
    )
    eyes = read_card(tmp_path / "first" / "eyes_alone")
    own, *ancestors = read_card(first), *read_card(second).pop("ancestors")
    assert own.pop("ancestors") == [eyes]
    assert ancestors == [eyes, own]
    assert (eyes["stage"], eyes["beliefs"], own["stage"], own["losses"]["stop_off_target"]) == (
        "eyes",
        "possible",
        "gaze",
        12.0,
    )
    assert (read_card(second)["steps"], read_card(second)["losses"]["stop_off_target"]) == (0, 3.0)
    assert read_card(second)["model"] == own["model"]
    assert not (tmp_path / "second" / "eyes_alone").exists()
    states = [load_decoder(folder).state_dict() for folder in (first, second)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items() if name != "first_start")


def test_an_ancestor_that_cannot_be_is_refused_before_the_work(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"has no gaze.json: no gaze weights"):
        train_gaze("tiny_gaze", [*words, f"ancestor={tmp_path}"], str(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_embedded_weights_say_where_they_come_from() -> None:
    """The recipe reproduces the settings of the last run; the card lists the runs before it."""
    card, recipe = read_card(find_model("tiny")), configure("tiny_gaze")
    ancestors = card["ancestors"]
    named_then = {"last_fixation": "landing", "stop_off_target": "astray"}
    assert card["losses"] == {named_then.get(name, name): weight for name, weight in asdict(recipe.losses).items()}
    gaze = [card, *[one for one in ancestors if one["stage"] == "gaze"]]
    assert sum(one["steps"] for one in gaze) == recipe.gaze.steps
    assert [one["steps"] for one in ancestors if one["stage"] == "eyes"] == [recipe.eyes.steps]
    assert load_decoder(find_model("tiny")).config == replace(recipe.decoder, state_width=256, image_channels=128)
    check_base_model(find_model("tiny"), load("tiny", device="cpu", dtype="bfloat16").model)
