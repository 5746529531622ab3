"""Check that a process runs the parts of other processes, with loss 0."""

import dataclasses

import pytest
import torch
from support.loss_terms import total_loss
from support.small_families import build_family
from support.small_model import build_model, draw_sample

from sa2va.model.auxiliary import ForwardView
from sa2va.model.batch import Batch, Tracks
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Sample, Turn

LOSSES = LossConfig(num_points=40, iou=1.0, presence=1.0, follow_iou=-1.0)
KINDS = ("internvl_qwen2", "internvl_qwen3", "internvl_internlm2", "internvl_phi3", "qwen2_5_vl", "qwen3_vl", "llava")
TEXT = Sample(turns=(Turn(question="red or blue?", answer="It is red."),))


def clip_batch(processor: Processor) -> Batch:
    """Build two clips with key frames 0 and 3; the object of the second is tracked through frames 1 and 2."""
    samples = [draw_sample(seed, num_frames=4) for seed in range(2)]
    tracks = Tracks(
        keyframes=(0, 3),
        frames=(1, 2),
        pixel_values=processor.sam_pixel_values(samples[1].frames[1:3]),
        frame_index=torch.tensor([[0, 1]]),
        key_rows=torch.tensor([[2, 3]]),
        targets=torch.from_numpy(samples[1].masks[:, 1:3]),
        seeds=torch.tensor([[8, 9]]),
    )
    return dataclasses.replace(processor(samples, [[0, 3]] * 2), tracks=tracks)


def run(model: Sa2VA, batch: Batch) -> tuple[dict[str, LossTerm], dict[str, torch.Tensor]]:
    model.zero_grad()
    terms = model(batch, LOSSES)
    total_loss(terms).backward()
    return terms, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_batch_says_which_parts_it_has(small: tuple[Sa2VA, Processor]) -> None:
    _, processor = small
    assert processor([TEXT]).parts == frozenset()
    assert processor([draw_sample(0)], for_masks=False).parts == {"pictures"}
    assert processor([draw_sample(0)]).parts == {"pictures", "masks"}
    assert clip_batch(processor).parts == {"pictures", "clips", "masks", "tracks"}
    assert processor([TEXT]).with_parts({"masks"}).parts == {"masks"}


def test_every_part_runs_where_another_process_has_it() -> None:
    model, processor = build_model(seed=3)
    full, touched = run(model, clip_batch(processor))
    plain, _ = run(model, processor([TEXT]))
    text, grads = run(model, processor([TEXT]).with_parts({"pictures", "clips", "masks", "tracks"}))
    assert set(text) == set(full) and set(plain) == {"lm"}
    torch.testing.assert_close(text["lm"].total, plain["lm"].total)
    assert all(term.total.item() == float(term.count) == 0 for name, term in text.items() if name != "lm")
    assert set(grads) == set(touched)
    assert not any(g.any() for name, g in grads.items() if name.startswith(("sam2.", "projector.")))


def test_a_process_with_masks_follows_nothing_where_another_one_does() -> None:
    model, processor = build_model(seed=3)
    batch = processor([draw_sample(0)])
    own, _ = run(model, batch)
    shared, grads = run(model, batch.with_parts({"pictures", "clips", "masks", "tracks"}))
    for name, term in own.items():
        torch.testing.assert_close(shared[name].total, term.total)
        assert float(shared[name].count) == float(term.count)
    memory = [grad for name, grad in grads.items() if "memory_encoder" in name]
    assert memory and not any(grad.any() for grad in memory)


def test_followed_objects_count_beside_those_of_key_frames() -> None:
    model, processor = build_model(seed=3)
    batch = clip_batch(processor)
    terms, grads = run(model, batch)
    assert float(terms["presence"].count) == 4 + 2
    assert any(grad.any() for name, grad in grads.items() if "memory_attention" in name)
    lost = model(batch, dataclasses.replace(LOSSES, follow_iou=1.0))
    assert float(lost["presence"].count) == 4


@pytest.mark.parametrize(
    "kind", ["internvl_qwen3", "internvl_internlm2", "internvl_phi3", "qwen2_5_vl", "qwen3_vl", "llava"]
)
def test_auxiliary_losses_see_attention_of_every_family(kind: str) -> None:
    model, processor = build_family(kind)
    model.mllm.record_attention()
    seen: list[ForwardView] = []

    class Spy:
        attention_layers = (1,)

        def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
            seen.append(view)
            return {"spied": LossTerm.of(view.attentions[1].square().mean()[None])}

    batch = processor([draw_sample(0), TEXT], mask_side=64)
    terms = model(batch, LOSSES, auxiliary=Spy())
    (view,) = seen
    length = batch.input_ids.shape[1]
    assert view.attentions[1].shape[2:] == (length, length)
    there = batch.attention_mask.bool()
    torch.testing.assert_close(view.attentions[1].sum(-1).mean(1)[there], torch.ones(int(there.sum())))
    assert not view.attentions[1].triu(1).any()
    assert int(view.is_visual.sum()) == len(batch.visual_index) and view.seg_states.shape == (1, model.mllm.width)
    assert terms["spied"].total > 0 and set(terms) == {"lm", "bce", "dice", "iou", "presence", "spied"}


@torch.no_grad()
@pytest.mark.parametrize(
    "kind", ["internvl_qwen2", "internvl_internlm2", "internvl_phi3", "qwen2_5_vl", "qwen3_vl", "llava"]
)
def test_branches_of_every_family_have_the_states_that_they_have_alone(kind: str) -> None:
    model, processor = build_family(kind)
    model.mllm.record_attention()
    turns = [Turn(question=text, answer="It is red.") for text in ("red or blue?", "which color is it?")]
    alone = [processor([Sample.of_arrays(draw_sample(0).frames, [turn])]) for turn in turns]
    ids = [one.input_ids[0].tolist() for one in alone]
    prefix = len(ids[0]) - ids[0][::-1].index(processor.image_id)
    packed = dataclasses.replace(
        alone[0],
        input_ids=torch.tensor([ids[0] + ids[1][prefix:]]),
        attention_mask=torch.ones(1, len(ids[0]) + len(ids[1]) - prefix, dtype=torch.long),
        branches=torch.tensor([[0] * prefix + [1] * (len(ids[0]) - prefix) + [2] * (len(ids[1]) - prefix)]),
    )
    states = model.mllm.run_text(model.encode(packed))[0]
    for number, one in enumerate(alone, start=1):
        mine = packed.branches[0] == number
        torch.testing.assert_close(
            states[mine], model.mllm.run_text(model.encode(one))[0, prefix:], atol=1e-4, rtol=1e-4
        )
