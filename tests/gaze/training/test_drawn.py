"""Training on drawn gaze: batches are pure functions of the step, Sa2VA stays as it is, beliefs may be given."""

from dataclasses import replace

import pytest
import torch
from gaze_model import build_gaze

from sa2va.gaze.training.drawn import DrawnSource, DrawnStage
from sa2va.training.config import StageConfig

CONFIG = StageConfig(name="gaze", steps=3, batch_size=6, lr=1e-3, autocast=False, num_workers=0)


@pytest.fixture(scope="module")
def stage() -> DrawnStage:
    return DrawnStage(CONFIG, build_gaze(), num_people=3)


def test_a_batch_is_a_function_of_seed_and_step(stage: DrawnStage) -> None:
    one, again, other = stage.batch(0), stage.batch(0), stage.batch(1)
    assert torch.equal(one.events.facts, again.events.facts) and one.words == again.words
    assert one.words != other.words
    assert one.owner.tolist() == [0, 0, 0, 1, 1, 1] and len(one.frames) == 2
    sums = one.crowd.sum(-1)
    assert ((sums - 1).abs() < 1e-4).logical_or(sums == 0).all() and (sums > 0.99).any(-1).all()
    grown = one.possible.flatten(2).sum(-1)
    assert (grown[:, 1:] <= grown[:, :-1] + 1e-3).all()  # words rule out, they never add


def test_only_the_decoder_learns(stage: DrawnStage) -> None:
    batch = stage.batch(0)
    losses = stage.losses(batch)
    losses["total"].backward()
    model = stage.model
    assert all(p.grad is None for p in model.sa2va.parameters())
    assert model.decoder.hear is not None and model.decoder.hear.weight.grad is not None
    assert model.decoder.look is not None and model.decoder.look.weight.grad is not None
    assert losses["crowd"] > 0 and losses["landing"] > 0


def test_beliefs_can_be_given(stage: DrawnStage) -> None:
    batch = stage.batch(0)
    for beliefs, wanted in (("target", 1), ("possible", 2)):
        told = DrawnStage(CONFIG, stage.model, num_people=3, beliefs=beliefs).understand(batch)
        assert told.beliefs.shape == stage.understand(batch).beliefs.shape
        shares = told.beliefs.flatten(2).sum(-1)
        assert (shares[:, -1] > 0).all()
        assert len(set(shares[0].tolist())) >= wanted - 1


def test_prefix_masks_can_be_trained_as_well() -> None:
    model = build_gaze()
    source = DrawnSource(0, model.decoder.config.grid, 1, 2)
    batch = source(0)
    heard = model.understand(batch.frames, batch.words)
    size = heard.mask_logits.shape[-2:]
    targets = torch.nn.functional.interpolate(batch.possible, size, mode="area")
    events = replace(batch.events, beliefs=heard.beliefs[batch.owner], states=heard.states[batch.owner])
    losses = model.losses(heard, batch.owner, events, targets=targets, crowd=batch.crowd)
    losses["total"].backward()
    assert losses["prefix"] > 0
    grad = model.sa2va.projector.fc2.weight.grad
    assert grad is not None and grad.abs().sum() > 0
