"""Check gaze training with an adapter: only the adapter is trained, prefix masks count, saved weights load."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("sa2va.world")
from gaze.support.gaze_model import build_gaze, draw_picture
from support.small_model import build_model

from sa2va.checkpoints.folder import save_checkpoint
from sa2va.gaze.predictor import load_gaze
from sa2va.gaze.training.joint import JointBatch, JointStage
from sa2va.gaze.training.recipes import train_gaze
from sa2va.gaze.training.store import StoreConfig
from sa2va.training.stage import StageConfig
from sa2va.training.state import module_tensors

pytest.importorskip("peft", reason="pip install 'sa2va[train]'")
STAGE = StageConfig(name="gaze", steps=2, batch_size=4, lr=1e-2, autocast=False, num_workers=0)


@pytest.fixture(scope="module")
def stage() -> JointStage:
    return JointStage(STAGE, build_gaze(), StoreConfig(num_cases=6), num_people=2, rank=2)


def take(stage: JointStage, step: int) -> JointBatch:
    return stage.data.collate([stage.data[key] for key in stage.data.keys(step)])


def test_a_batch_is_a_function_of_seed_and_step(stage: JointStage) -> None:
    one, again, other = take(stage, 0), take(stage, 0), take(stage, 1)
    assert one.words == again.words != other.words and len(one.frames) == 2
    assert torch.equal(one.possible, again.possible)
    grown = one.possible.flatten(2).sum(-1)
    assert (grown[:, 1:] <= grown[:, :-1] + 1e-3).all()
    assert take(stage, 3).words == one.words  # after the last expression comes the first


def test_the_language_model_learns_by_its_adapter_alone(stage: JointStage) -> None:
    losses = stage.module(take(stage, 0))
    assert losses["prefix"].mean > 0 and losses["crowd"].mean > 0
    torch.stack([term.weight * term.mean for term in losses.values()]).sum().backward()
    sa2va = stage.module.model.sa2va
    moved = {name for name, value in sa2va.named_parameters() if value.grad is not None}
    assert moved and all("lora_" in name and "language_model" in name for name in moved)
    assert any(value.grad is not None and value.grad.any() for value in sa2va.parameters())
    saved = [name for name in module_tensors(stage.module) if "decoder." not in name.partition("sa2va.")[0]]
    buffers = {f"model.{name}" for name, _ in stage.module.model.named_buffers()}
    assert saved and all("lora_" in name or name in buffers for name in saved)


def test_a_short_run_gives_an_adapter_and_weights_that_load(tmp_path: Path) -> None:
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, tmp_path / "model", torch.float32)
    words = [f"start={tmp_path / 'model'}", "store.num_cases=4", "store.num_people=2", "num_people=2", "device=cpu"]
    words += ["decoder.width=16", "decoder.place_width=8", "decoder.cell=32", "decoder.num_layers=1", "lora_rank=2"]
    words += [f"{stage}.{one}" for stage in ("eyes", "gaze") for one in ("steps=1", "batch_size=2", "num_workers=0")]
    folder = train_gaze("published_gaze_lora", words, str(tmp_path / "run"), quiet=True)
    predictor = load_gaze(tmp_path / "model", gaze=folder, adapter=str(tmp_path / "run" / "adapter"), device="cpu")
    assert predictor.predict(draw_picture(1)[0], "red circle", num_samples=1)[0].fixations
