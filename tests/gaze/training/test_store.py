"""Check that a store returns the outputs of Sa2VA, is filled once, and refuses another model or run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("sa2va.world")
from gaze.support.gaze_model import build_gaze
from safetensors import safe_open
from safetensors.torch import save_file

from sa2va.gaze.model.events import FACT, write_tokens
from sa2va.gaze.model.scanpath_model import ScanpathModel, fingerprint
from sa2va.gaze.training import store as stores
from sa2va.gaze.training.simulated import draw_viewings
from sa2va.gaze.training.store import Store, StoreConfig, fill, read
from sa2va.gaze.training.stored import StoredStage
from sa2va.gaze.trial import on_canvas
from sa2va.training.stage import StageConfig

CONFIG = StoreConfig(num_cases=8, num_people=3)
STAGE = StageConfig(name="gaze", steps=3, batch_size=6, lr=1e-3, autocast=False, num_workers=0)


@pytest.fixture(scope="module")
def model() -> ScanpathModel:
    return build_gaze()


@pytest.fixture(scope="module")
def made(model: ScanpathModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "SHARD", 4)
        patch.setattr(stores, "TOGETHER", 2)
        fill(folder, CONFIG, model.decoder.config.grid, model)
        return folder, read(folder, CONFIG, model.decoder.config.grid, model.sa2va)


def test_what_was_heard_is_given_back(model: ScanpathModel, made: tuple[Path, Store]) -> None:
    store, index = made[1], torch.tensor([6, 1])
    cases = [draw_viewings(0, "train", number, 1)[0].case for number in (6, 1)]
    with torch.no_grad():
        heard = model.ground([case.frame[None] for case in cases], [case.expression.words for case in cases])
    kept = store.grounding(index, "model")
    assert kept.known.equal(heard.known) and kept.image_size == heard.image_size
    for name in ("states", "beliefs", "coarse", "fine"):
        one, other = getattr(kept, name), getattr(heard, name)
        known = heard.known if name in ("states", "beliefs") else torch.ones(2, dtype=torch.bool)
        assert (one[known] - other[known]).abs().max() <= 2e-3 * (1 + other.abs().max())


def test_people_belong_to_their_expressions(made: tuple[Path, Store]) -> None:
    store, index, people = made[1], torch.tensor([5, 2]), torch.tensor([[2, 0], [1, 2]])
    batch = store.scanpaths(index, people, store.grounding(index, "possible"))
    expected = [
        draw_viewings(0, "train", case, 3)[person] for case, row in ((5, (2, 0)), (2, (1, 2))) for person in row
    ]
    for row, viewing in zip(range(4), expected, strict=True):
        places = batch.target[row][batch.looks[row]][:, :2]
        looked = [(step.fixation.x, step.fixation.y) for step in viewing.steps]
        assert torch.allclose(places, torch.tensor(looked), atol=1e-2)
    assert (batch.label[~batch.valid] == -1).all() and batch.cover is not None


def test_beliefs_can_be_given(made: tuple[Path, Store]) -> None:
    store, index = made[1], torch.tensor([0, 3])
    target, possible = (store.grounding(index, kind).beliefs for kind in ("target", "possible"))
    assert target.shape == possible.shape
    assert torch.equal(target[:, 0], target[:, -1]) and not torch.equal(possible[:, 0], possible[:, -1])
    with pytest.raises(ValueError, match="the store holds cases 0..7 of train/0"):
        store.find("world/val/0/1")
    assert store.find("world/train/0/7") == 7


def test_a_store_is_filled_once(
    model: ScanpathModel, made: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, grid = made[0], model.decoder.config.grid
    monkeypatch.setattr(stores, "SHARD", 4)
    monkeypatch.setattr(model, "ground", lambda *_: pytest.fail("asked again"))
    fill(folder, CONFIG, grid, model)
    (folder / "heard-00001.safetensors").unlink()
    with pytest.raises(ValueError, match="heard-00001.safetensors: cannot be read"):
        read(folder, CONFIG, grid, model.sa2va)
    monkeypatch.undo()
    monkeypatch.setattr(stores, "SHARD", 4)
    fill(folder, CONFIG, grid, model, turn=(1, 2))
    read(folder, CONFIG, grid, model.sa2va)


def test_shards_of_another_model_or_run_are_refused(
    model: ScanpathModel, made: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, grid = made[0], model.decoder.config.grid
    monkeypatch.setattr(stores, "SHARD", 4)
    other = build_gaze(seed=5)
    assert fingerprint(other.sa2va) != fingerprint(model.sa2va)
    with pytest.raises(ValueError, match="this run has .*; use another output folder"):
        read(folder, CONFIG, grid, other.sa2va)
    with pytest.raises(ValueError, match="made with people 3, this run has 4"):
        read(folder, replace(CONFIG, num_people=4), grid, None)


def test_shards_of_another_clock_are_refused(made: tuple[Path, Store], tmp_path: Path) -> None:
    """Older stores ended the first pack at 50 ms, so their tokens differ."""
    with safe_open(made[0] / "drawn-00000.safetensors", "pt") as shard:
        metadata = {name: value for name, value in shard.metadata().items() if name != "first pack"}
        save_file(
            {name: shard.get_tensor(name) for name in shard.keys()}, tmp_path / "drawn-00000.safetensors", metadata
        )
    with pytest.raises(ValueError, match="made with first pack None, this run has until the first onset"):
        read(tmp_path, CONFIG, build_gaze().decoder.config.grid, None)


def test_stored_tokens_are_those_of_the_trials(made: tuple[Path, Store]) -> None:
    store = made[1]
    trial = on_canvas(draw_viewings(0, "train", 3, 3)[1].trial)
    assert trial.timing is not None and trial.timing.onsets[0] != 50
    facts = torch.tensor([token["facts"] for token in write_tokens(trial.scanpath, trial.timing)])
    assert torch.equal(store.gaze.events.facts[3 * 3 + 1, : len(facts)], facts)
    assert facts[0, FACT["until"]] == torch.tensor(trial.timing.onsets[0])


def test_a_batch_is_a_function_of_seed_and_step(model: ScanpathModel, made: tuple[Path, Store]) -> None:
    stage = StoredStage(STAGE, model.decoder, made[1], num_people=3)
    one, again, other = (stage.data.collate([stage.data[key] for key in stage.data.keys(n)]) for n in (0, 0, 1))
    assert torch.equal(one.events.facts, again.events.facts) and torch.equal(one.crowd, again.crowd)
    assert one.events.facts.shape != other.events.facts.shape or not torch.equal(one.events.facts, other.events.facts)
    assert one.owner.tolist() == [0, 0, 0, 1, 1, 1]
    seen = [int(i) for turn in range(2) for i in stage.data.order(turn)]
    assert sorted(seen) == sorted([*range(len(stage.data))] * 2)
    low, high = model.decoder.first_start.tolist()
    assert -200 < low < high < -120


def test_all_parts_of_the_decoder_learn_and_sa2va_does_not(model: ScanpathModel, made: tuple[Path, Store]) -> None:
    stage = StoredStage(STAGE, model.decoder, made[1], num_people=3)
    losses = stage.module(stage.data.collate([stage.data[key] for key in stage.data.keys(0)]))
    torch.stack([term.weight * term.mean for term in losses.values()]).sum().backward()
    assert all(p.grad is None for p in model.sa2va.parameters())
    without = {name for name, p in model.decoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert not without, without
    assert losses["crowd"].mean > 0 and losses["last_fixation"].mean > 0
    model.decoder.zero_grad()
    figures = stage.validate(0)
    assert figures is not None and math.isfinite(figures["bits"])
