"""Branches behind one picture are as good as alone, and none shows what training must not see."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.small_model import build_model

from sa2va.training.stage import StageConfig
from sa2va.types import Sample
from sa2va.world.tasks.exchanges import OPPOSITES, draw_exchanges
from sa2va.world.tasks.items import draw_item, is_heldout, render_item
from sa2va.world.training import packed
from sa2va.world.training.cotrain import CotrainBatch, Teachers
from sa2va.world.training.packed import PackedBatch, branch_bias, pack, run_packed
from sa2va.world.training.recipes import build_stage
from sa2va.world.training.word_grounding import watched


def draw_picture(index, number=5):
    scene, rng = draw_item("refseg", 3, "train", index)
    exchanges = draw_exchanges(scene, rng, number, number)
    picture = render_item(scene, "refseg")
    masks = np.concatenate([picture.masks, np.zeros_like(picture.masks[:1])])
    turns = tuple(exchange.turn for exchange in exchanges)
    return Sample(frames=picture.frames, turns=turns, masks=masks), exchanges


@pytest.fixture(scope="module")
def model_and_processor():
    return build_model(seed=4)


@pytest.fixture(scope="module")
def item(model_and_processor):
    samples, exchanges = zip(*map(draw_picture, range(2)), strict=True)
    return samples, pack(model_and_processor[1], samples, exchanges)


@torch.no_grad()
def test_each_branch_has_the_states_that_it_has_alone(model_and_processor, item):
    model, processor = model_and_processor
    model.mllm.native.set_attn_implementation("sdpa")
    samples, batch = item
    states, (looks,) = run_packed(model, batch, [0])
    attention = model.mllm.native.model.language_model.layers[0].self_attn
    for row, sample in enumerate(samples):
        for number, turn in enumerate(sample.turns, start=1):
            alone = processor([Sample(frames=sample.frames, turns=(turn,), masks=sample.masks)], for_masks=False)
            with watched([attention], looks.shape[1], alone.attention_mask) as seen:
                expected = model.hidden_states(alone)[0, batch.prefix :]
            mine = batch.branch[row] == number
            assert batch.batch.input_ids[row, mine].tolist() == alone.input_ids[0, batch.prefix :].tolist()
            assert batch.batch.labels[row, mine].tolist() == alone.labels[0, batch.prefix :].tolist()
            torch.testing.assert_close(states[row, mine], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                model.mllm.logits(states[row, mine]), model.mllm.logits(expected), atol=1e-4, rtol=1e-4
            )
            looked = seen[0][0, :, batch.prefix :, : batch.prefix]
            torch.testing.assert_close(looks[row, :, mine], looked, atol=1e-4, rtol=1e-4)


def test_each_seg_has_its_object(model_and_processor, item):
    samples, batch = item
    side = int(model_and_processor[1].config.tokens_per_tile ** 0.5)
    masks = [s.masks[i, 0] for s in samples for t in s.turns for span in t.spans for i in span.objects]
    expected = F.adaptive_avg_pool2d(torch.from_numpy(np.stack(masks)).float(), side).flatten(1)
    assert len(masks) > 4
    torch.testing.assert_close(batch.spoken.cover, expected)
    said = batch.batch.input_ids[batch.spoken.positions.unbind(1)]
    assert set(said.tolist()) == {model_and_processor[1].seg_id}


def test_an_empty_mask_is_no_lesson_for_words():
    scene, rng = draw_item("refseg", 3, "train", 5)
    shown = [e for e in draw_exchanges(scene, rng, 60, 0) if e.kind == "absent"]
    assert {e.turn.supervised for e in shown} == {True, False}
    for exchange in shown:
        objects = [i for span in exchange.turn.spans for i in span.objects]
        assert objects == ([] if exchange.turn.supervised else [len(scene.objects)])


def test_a_token_sees_its_own_branch_and_no_later_token():
    branch = torch.tensor([[0, 0, 1, 1, 1, 2, 2, -1, -1, -1]])
    bias = branch_bias(branch, prefix=2, block=4)
    visible = [[row for row, seen in enumerate(keys) if seen == 0] for keys in bias[0].tolist()]
    # Of eight keys, the first four are the block before: nothing for the first block.
    assert visible[:6] == [[4], [4, 5], [4, 5, 6], [7], [3, 4], [5]]


def test_pictures_of_training_show_and_ask_no_held_out_pair():
    for index in range(40):
        scene, rng = draw_item("refseg", 0, "train", packed.FIRST_SCENE + index)
        assert not is_heldout(scene, range(len(scene.objects)))
        for exchange in draw_exchanges(scene, rng, 12, 12):
            assert not is_heldout(scene, exchange.targets)


def test_no_opposites_while_it_is_easy():
    texts = []
    for hard in (False, True):
        drawn = [draw_item("refseg", 0, "train", index) for index in range(12)]
        found = [e.turn.question for scene, rng in drawn for e in draw_exchanges(scene, rng, 0, 12, hard=hard)]
        texts.append([text for text in found if any(word in text for word in OPPOSITES)])
    assert texts[0] == [] and len(texts[1]) > 5


def test_the_stage_takes_turns_and_leaves_the_image_encoders_alone(monkeypatch):
    monkeypatch.setattr(packed, "ROOM", 300)
    monkeypatch.setattr(packed, "LEAST_BRANCHES", 2)
    model, processor = build_model(seed=2)
    config = StageConfig(name="packed", steps=40, batch_size=2, lr=1e-3)
    stage = build_stage(config, model, processor, Teachers(model))
    batches = [stage.batch(step) for step in (0, packed.ORDINARY_EVERY - 1)]
    assert [type(batch) for batch in batches] == [PackedBatch, CotrainBatch]
    for batch in batches:
        losses = stage.losses(batch)
        assert all(torch.isfinite(loss) for loss in losses.values())
        losses["total"].backward()
    text = model.mllm.native.model.language_model
    assert all(layer.mlp.up_proj.weight.grad.any() for layer in text.layers)
    resting = (model.sam2.native.vision_encoder, model.mllm.native.model.vision_tower)
    assert all(p.grad is None for part in resting for p in part.parameters())
