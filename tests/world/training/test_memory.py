"""Test the tracking stage: absences in its targets, frames without gradients, and pictures that stay as they are."""

import dataclasses

import pytest
import torch
from support.loss_terms import total_loss
from support.small_model import build_model

from sa2va.training.optim import build_optimizer
from sa2va.training.stage import RunContext
from sa2va.world.training.memory import LONG_GAP, ClipBatch, MemoryConfig, MemoryStage
from sa2va.world.training.recipes import tiny_tracking

(STAGE,) = tiny_tracking().stages
assert isinstance(STAGE, MemoryConfig)
CONFIG = dataclasses.replace(STAGE, batch_size=2, followed=12, window=6)


def build(tmp_path, config: MemoryConfig = CONFIG) -> MemoryStage:
    model, processor = build_model(seed=2)
    return config.build(
        RunContext(model=model, processor=processor, seed=0, folder=tmp_path, device=torch.device("cpu"))
    )


def batches(stage: MemoryStage, steps: range):
    return (stage.data.collate([stage.data[key] for key in stage.data.keys(step)]) for step in steps)


def test_objects_disappear_and_return_in_most_steps(tmp_path):
    returning = absent = 0
    for batch in batches(build(tmp_path), range(12)):
        seen = batch.targets.flatten(2).any(2)
        returning += bool((~seen[:, :-1] & seen[:, 1:]).any())
        absent += bool((~seen).any())
        assert batch.given.flatten(1).any(1).all(), "an object is visible where it is prompted"
        xy = batch.points[:, 0].long()
        assert batch.given[torch.arange(len(xy)), xy[:, 1], xy[:, 0]].all(), "a point lies on its object"
    assert returning >= 8
    assert absent >= 8


def test_a_sliver_that_shrinks_to_nothing_is_not_prompted(tmp_path):
    stage = build(tmp_path)
    items = [stage.data[key] for key in stage.data.keys(0)]
    masks = items[0].scene.masks.clone()
    masks[0, 0] = False
    masks[0, 0, 41, 20:200] = True
    batch = stage.data.collate(
        [dataclasses.replace(items[0], scene=dataclasses.replace(items[0].scene, masks=masks)), items[1]]
    )
    assert len(batch.given) and batch.given.flatten(1).any(1).all()


def test_a_step_has_its_own_frames():
    plans = [CONFIG.plan(step) for step in range(60)]
    assert 6 < sum(plan.is_long for plan in plans) < 40
    for plan in plans:
        prompted, *tracked = plan.numbers
        assert prompted not in tracked
        assert tracked == sorted(tracked)
        assert plan.num_settling < len(tracked)
        assert not plan.is_long or tracked[0] == LONG_GAP
    assert {len(plan.numbers) for plan in plans if not plan.is_long} == {frames for frames, _ in CONFIG.spans}
    assert any(plan.numbers[0] > plan.numbers[1] for plan in plans), "some prompts come after tracked frames"
    assert {plan.num_settling for plan in plans} >= {0, 1, 2}


def test_frames_that_fill_the_memory_have_no_loss(tmp_path):
    stage = build(tmp_path)
    batch = next(batch for batch in batches(stage, range(20)) if batch.num_settling > 1)
    learning = batch.targets.shape[1] - batch.num_settling
    terms = stage.module(batch)
    assert terms["presence"].count == len(batch.targets) * learning <= CONFIG.followed
    changed = dataclasses.replace(batch, targets=batch.targets.clone())
    changed.targets[:, : batch.num_settling] = False
    for name, term in stage.module(changed).items():
        torch.testing.assert_close(term.total, terms[name].total, msg=name)


def test_pictures_stay_as_they_are(tmp_path):
    stage = build(tmp_path)
    sam2, (batch,) = stage.module.sam2, batches(stage, range(1))
    prompt = torch.randn(1, sam2.width)

    def decode() -> torch.Tensor:
        with torch.no_grad():
            frame = sam2.encode_frames(batch.sam_pixel_values[:1])
            return sam2.decode(
                sam2.without_memory(frame.embeds), frame.high_res, sam2.language_prompt(prompt, 1)
            ).candidates

    def losses(one: ClipBatch) -> float:
        return float(total_loss(stage.module(one)).detach())

    before, loss = decode(), losses(batch)
    optimizer = build_optimizer(stage.module, stage.parameters(), stage.config)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    total_loss(stage.module(batch)).backward()
    optimizer.step()
    assert torch.equal(before, decode())
    assert losses(batch) != pytest.approx(loss)
