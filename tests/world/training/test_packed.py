"""Check that branches behind one picture equal separate rows, and contain no held-out pair."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.loss_terms import total_loss
from support.small_model import build_model

from sa2va.tokens import IGNORE_INDEX
from sa2va.training.new_tokens import change_seg_design
from sa2va.training.stage import RunContext
from sa2va.types import Sample
from sa2va.world.scenes.motion import STILL
from sa2va.world.tasks.exchanges import OPPOSITES, STILL_KEPT, draw_exchanges
from sa2va.world.tasks.items import draw_item, is_clip, is_heldout, render_item
from sa2va.world.training.clip_motion import label_motions
from sa2va.world.training.packed import PackedConfig, pack
from sa2va.world.training.scene_batch import mask_boxes


def draw_packed(index, number=5, task="refseg"):
    """Draw a picture, or the four key frames of a clip, with its exchanges."""
    scene, rng = draw_item(task, 3, "train", index)
    exchanges = draw_exchanges(scene, rng, number, number, moving=is_clip(task))
    picture, shown = render_item(scene, task), [0, 5, 10, 15] if is_clip(task) else [0]
    masks = np.concatenate([picture.masks, np.zeros_like(picture.masks[:1])])[:, shown]
    turns = tuple(exchange.turn for exchange in exchanges)
    frames, meta = picture.frames[shown], {"scene": scene}
    return Sample.of_arrays(frames=frames, turns=turns, masks=masks, meta=meta), exchanges


@pytest.fixture(scope="module")
def model_and_processor():
    model, processor = build_model(seed=4)
    model.mllm.record_attention()
    return model, processor


@pytest.fixture(scope="module", params=["refseg", "video_refseg"])
def item(model_and_processor, request):
    samples, exchanges = zip(*(draw_packed(index, task=request.param) for index in range(2)), strict=True)
    return samples, exchanges, pack(model_and_processor[1], samples, exchanges)


@torch.no_grad()
def test_each_branch_has_the_states_that_it_has_alone(model_and_processor, item):
    model, processor = model_and_processor
    samples, exchanges, packed = item
    batch = packed.batch
    states, attentions = model.mllm.run_text_recorded(model.encode(batch), [0])
    for row, sample in enumerate(samples):
        prefix = int((batch.branches[row] == 0).sum())
        for number, exchange in enumerate(exchanges[row], start=1):
            alone = processor(
                [Sample.of_arrays(frames=sample.frames, turns=(exchange.turn,), masks=sample.masks)], for_masks=False
            )
            expected, attended = model.mllm.run_text_recorded(model.encode(alone), [0])
            mine = batch.branches[row] == number
            assert batch.input_ids[row, mine].tolist() == alone.input_ids[0, prefix:].tolist()
            labels = [batch.labels, packed.grounding.answer_labels]
            mine_labels, other = labels if exchange.is_request else labels[::-1]
            assert mine_labels[row, mine].tolist() == alone.labels[0, prefix:].tolist()
            assert (other[row, mine] == IGNORE_INDEX).all()
            torch.testing.assert_close(states[row, mine], expected[0, prefix:], atol=1e-4, rtol=1e-4)
            seen = attentions[0][row][:, mine][..., :prefix]
            torch.testing.assert_close(seen, attended[0][0, :, prefix:, :prefix], atol=1e-4, rtol=1e-4)


def test_each_seg_has_its_object(model_and_processor, item):
    samples, _, packed = item
    side = int(model_and_processor[1].config.tokens_per_tile ** 0.5)
    masks = [s.masks[i] for s in samples for t in s.turns for span in t.spans for i in span.objects]
    expected = F.adaptive_avg_pool2d(torch.from_numpy(np.stack(masks)).float(), side).flatten(1)
    assert len(masks) > 4
    objects = packed.grounding.objects
    torch.testing.assert_close(objects.cover, expected)
    said = packed.batch.input_ids[objects.positions.unbind(1)]
    assert set(said.tolist()) == {model_and_processor[1].seg_id}


@pytest.mark.parametrize("name", ["repeat", "multiple"])
def test_a_token_of_one_key_frame_stands_for_its_object_there(name):
    model, processor = change_seg_design(*build_model(seed=4), name)
    samples, exchanges = zip(*(draw_packed(index, task="video_refseg") for index in range(3)), strict=True)
    batch = pack(processor, samples, exchanges)
    masks = [s.masks[i] for s in samples for t in s.turns for span in t.spans for i in span.objects]
    wanted = F.adaptive_avg_pool2d(torch.from_numpy(np.stack(masks)).float(), 4)  # (n, 4 key frames, 4, 4)
    cover = batch.grounding.objects.cover.unflatten(1, (4, 16)).unflatten(0, (-1, 4))  # (n, token, frame, cell)
    for token in range(4):
        torch.testing.assert_close(cover[:, token, token], wanted[:, token].flatten(1))
        assert not cover[:, token, torch.arange(4) != token].any()
    assert torch.equal(batch.grounding.boxes.unflatten(0, (-1, 4)), mask_boxes(torch.from_numpy(np.stack(masks))))
    said = batch.batch.input_ids[batch.grounding.objects.positions.unbind(1)].unflatten(0, (-1, 4))
    assert [processor.seg_tokens[one] for one in said[0].tolist()] == list(processor.design.object_tokens(4))
    assert len(said) == len(masks) > 4
    config = PackedConfig(name="packed", steps=40, batch_size=2, lr=1e-3, ordinary_every=1)
    context = RunContext(model=model, processor=processor, seed=0, folder=Path("unused"), device=torch.device("cpu"))
    stage = config.build(context)
    drawn = (stage.data.collate([stage.data[key] for key in stage.data.keys(step)]) for step in range(40))
    clips = next(one for one in drawn if len(one.batch.seg_rows) and "clips" in one.batch.parts)
    assert len(clips.grounding.objects.cover) == len(clips.grounding.boxes) == len(clips.batch.seg_positions)
    for one in (batch, clips):
        assert all(torch.isfinite(term.total) for term in stage.module(one).values())


def test_an_empty_mask_is_no_lesson_for_words():
    scene, rng = draw_item("refseg", 3, "train", 5)
    shown = [e for e in draw_exchanges(scene, rng, 60, 0) if e.kind == "absent"]
    assert {e.turn.supervised for e in shown} == {True, False}
    for exchange in shown:
        objects = [i for span in exchange.turn.spans for i in span.objects]
        assert objects == ([] if exchange.turn.supervised else [len(scene.objects)])


def test_pictures_of_training_show_and_ask_no_held_out_pair():
    first = PackedConfig(name="packed", steps=1, batch_size=1, lr=1.0).first_scene
    for index in range(40):
        scene, rng = draw_item("refseg", 0, "train", first + index)
        assert not is_heldout(scene, range(len(scene.objects)))
        for exchange in draw_exchanges(scene, rng, 12, 12):
            assert not is_heldout(scene, exchange.targets)


def test_clips_of_training_show_and_ask_no_held_out_pair_and_most_exchanges_are_about_motion():
    kinds = []
    for index in range(20):
        scene, rng = draw_item("video_refseg", 0, "train", 40_000_000 + index)
        assert not is_heldout(scene, range(len(scene.objects)))
        drawn = draw_exchanges(scene, rng, 12, 12, moving=True)
        kinds += [exchange.kind for exchange in drawn]
        assert not any(is_heldout(scene, exchange.targets) for exchange in drawn)
    assert {"motion", "who moves", "any motion", "count moving", "caption", "absent"} <= set(kinds)
    assert sum(kind in ("motion", "who moves", "any motion", "count moving", "caption") for kind in kinds) > 10 * 20


def test_an_object_of_a_clip_is_asked_once_what_it_does_and_less_often_if_it_stays_still(monkeypatch):
    stays = {}
    for kept in (0.0, STILL_KEPT, 1.0):
        monkeypatch.setattr("sa2va.world.tasks.exchanges.STILL_KEPT", kept)
        stays[kept] = moves = 0
        for index in range(40):
            scene, rng = draw_item("video_refseg", 0, "train", 40_000_000 + index)
            drawn = draw_exchanges(scene, rng, 12, 24, moving=True)
            asked = [one.targets for one in drawn if one.kind == "motion" and not one.is_request]
            assert len(asked) == len(set(asked))
            still = [scene.objects[target].motion == STILL for (target,) in asked]
            stays[kept], moves = stays[kept] + sum(still), moves + still.count(False)
        assert moves > 20
    assert stays[0.0] == 0 < stays[STILL_KEPT] < 0.8 * stays[1.0]


def test_each_clause_of_a_caption_is_about_its_object():
    for index in range(10):
        sample, exchanges = draw_packed(index, task="video_refseg")
        objects = sample.meta["scene"].objects
        (caption,) = (exchange for exchange in exchanges if exchange.kind == "caption")
        assert sorted(span.objects[0] for span in caption.about) == list(range(len(objects)))
        for span in caption.about:
            clause, thing = caption.turn.answer[span.start : span.end], objects[span.objects[0]]
            assert clause.startswith(("a ", "an ")) and thing.shape in clause
            is_still = thing.motion.kind == "stays still"
            assert is_still or clause.split(" that ")[1].startswith(thing.motion.kind)
            assert caption.turn.answer[span.end] in ",. "


def test_answers_about_motion_look_at_their_object(model_and_processor):
    _, processor = model_and_processor
    samples, exchanges = zip(*(draw_packed(index, task="video_refseg") for index in range(2)), strict=True)
    packed = pack(processor, samples, exchanges)
    grounding, ids = packed.grounding, packed.batch.input_ids
    said = processor.decode([int(ids[row, column + 1]) for row, column in grounding.answers.positions.tolist()])
    kinds = {thing.motion.kind for sample in samples for thing in sample.meta["scene"].objects} - {"stays still"}
    assert kinds and all(kind in said for kind in kinds)
    assert grounding.answers.cover.any(1).all() and grounding.answers.cover.shape[1] == 4 * 16
    wanted = label_motions(samples, 4)
    assert torch.equal(grounding.motions.cells, wanted.cells)


def test_no_opposites_while_it_is_easy():
    texts = []
    for hard in (False, True):
        drawn = [draw_item("refseg", 0, "train", index) for index in range(12)]
        found = [e.turn.question for scene, rng in drawn for e in draw_exchanges(scene, rng, 0, 12, hard=hard)]
        texts.append([text for text in found if any(word in text for word in OPPOSITES)])
    assert texts[0] == [] and len(texts[1]) > 5


@pytest.mark.parametrize("cycle", [("refseg",), ("video_refseg", "refseg")])
def test_the_stage_takes_turns_and_leaves_the_image_encoders_alone(cycle):
    model, processor = build_model(seed=2)
    config = PackedConfig(
        name="packed", steps=40, batch_size=2, lr=1e-3, branch_tokens=300, least_branches=2, cycle=cycle
    )
    context = RunContext(model=model, processor=processor, seed=0, folder=Path("unused"), device=torch.device("cpu"))
    stage = config.build(context)
    for step in (0, 1, config.ordinary_every - 1):
        batch = stage.data.collate([stage.data[key] for key in stage.data.keys(step)])
        is_packed = step < config.ordinary_every - 1
        assert (batch.batch.branches is None) != is_packed
        assert not is_packed or ("clips" in batch.batch.parts) == (cycle[step % len(cycle)] == "video_refseg")
        terms = stage.module(batch)
        assert all(torch.isfinite(term.total) for term in terms.values())
        assert not is_packed or (terms["lm"].weight, terms["lm_answers"].weight) == (0.5, 1.5)
        total_loss(terms).backward()
    text = model.mllm.text_model
    assert all(layer.mlp.up_proj.weight.grad.any() for layer in text.layers)
    resting = (model.sam2.native.vision_encoder, model.mllm.vision_tower)
    assert all(p.grad is None for part in resting for p in part.parameters())


def test_masks_train_the_text_model_and_the_projector_while_sam_rests():
    model, processor = build_model(seed=2)
    config = PackedConfig(name="packed", steps=40, batch_size=2, lr=1e-3, ordinary_every=1, trains_sam=False)
    context = RunContext(model=model, processor=processor, seed=0, folder=Path("unused"), device=torch.device("cpu"))
    stage = config.build(context)
    batches = (stage.data.collate([stage.data[key] for key in stage.data.keys(step)]) for step in range(40))
    batch = next(one for one in batches if len(one.batch.seg_rows))
    terms = stage.module(batch)
    assert {"bce", "dice"} <= set(terms)
    (terms["bce"].mean + terms["dice"].mean).backward()
    assert all(p.grad is None and not p.requires_grad for p in model.sam2.parameters())
    assert all(p.grad.any() for p in model.projector.parameters())
    assert all(layer.mlp.up_proj.weight.grad.any() for layer in model.mllm.text_model.layers)
