"""Check how mask tokens map to objects and frames."""

from dataclasses import replace

import pytest
import torch
from support.loss_terms import total_loss
from support.small_model import build_model, draw_sample

from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.seg_design import SEG_DESIGNS, one_frame_rows
from sa2va.tokens import SEG_TOKEN


def test_rows_name_state_frame_and_object() -> None:
    single, repeat, multiple = SEG_DESIGNS.values()
    assert single.seg_rows(2, 2).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]]
    assert repeat.seg_rows(2, 2).tolist() == [[0, 0, 0], [1, 1, 0], [2, 0, 1], [3, 1, 1]]
    assert multiple.seg_rows(2, 2).tolist() == repeat.seg_rows(2, 2).tolist()
    for design in SEG_DESIGNS.values():  # on a picture they are one
        assert torch.equal(design.seg_rows(3, 1), one_frame_rows(torch.zeros(3, dtype=torch.long)))


def test_only_multiple_adds_tokens() -> None:
    added = {name: design.added_tokens(3) for name, design in SEG_DESIGNS.items()}
    assert added == {"single": (), "repeat": (), "multiple": ("[SEG_1]", "[SEG_2]", "[SEG_3]")}


@pytest.mark.parametrize(
    ("name", "tokens", "groups"),
    [
        ("single", [SEG_TOKEN] * 3, [[0], [1], [2]]),
        ("repeat", [SEG_TOKEN] * 5, [[0, 1], [2, 3]]),  # the last object is incomplete
        ("multiple", ["[SEG_1]", "[SEG_2]", "[SEG_1]", "[SEG_1]", "[SEG_2]", "[SEG_2]"], [[0, 1], [3, 4]]),
    ],
)
def test_tokens_of_an_answer_are_grouped_by_object(name: str, tokens: list[str], groups: list[list[int]]) -> None:
    assert SEG_DESIGNS[name].group_tokens(tokens, num_frames=2) == groups


@pytest.mark.parametrize("name", SEG_DESIGNS)
def test_every_design_trains_on_pictures_and_clips_in_one_batch(name: str) -> None:
    model, processor = build_model(seed=1, seg_design=name)
    samples = [draw_sample(0, num_frames=3), draw_sample(1), draw_sample(2, num_frames=2)]
    batch = processor(samples)
    per_object = {"single": [1, 1, 1]}.get(name, [3, 1, 2])
    assert torch.bincount(batch.seg_positions[:, 0]).tolist() == per_object
    assert batch.seg_rows[:, 1].tolist() == list(range(6)) and batch.seg_rows[:, 2].tolist() == [0, 0, 0, 1, 2, 2]
    said = batch.input_ids[batch.seg_positions.unbind(1)].tolist()
    assert [processor.seg_tokens[i] for i in said] == [
        token for sample in samples for token in processor.design.object_tokens(sample.num_frames)
    ]
    losses = LossConfig(num_points=64)
    first, parameters = None, [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    for _ in range(8):
        loss = total_loss(model(batch, losses))
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * first


def test_single_gives_one_state_to_all_frames(small: tuple[Sa2VA, Processor]) -> None:
    """Masks of a shared state equal those of the state repeated once per frame."""
    model, processor = small
    frames = model.sam2.encode_frames(processor.sam_pixel_values(draw_sample(0, num_frames=3).frames))
    states = torch.randn(2, model.mllm.width)
    with torch.no_grad():
        shared = model.decode_masks(states, frames, SEG_DESIGNS["single"].seg_rows(2, 3))
        repeated = model.decode_masks(states.repeat_interleave(3, 0), frames, SEG_DESIGNS["repeat"].seg_rows(2, 3))
    torch.testing.assert_close(shared.candidates, repeated.candidates, atol=1e-5, rtol=1e-5)


def test_an_unknown_design_is_refused(small: tuple[Sa2VA, Processor]) -> None:
    with pytest.raises(ValueError, match="seg_design 'many' is unknown; use one of single, repeat, multiple"):
        replace(small[0].config, seg_design="many")


@pytest.mark.parametrize("name", SEG_DESIGNS)
def test_every_design_draws_on_clips_what_it_was_taught(name: str) -> None:
    """A model overfitted to one clip generates the mask tokens of its design and decodes one object per frame."""
    model, processor = build_model(seed=1, seg_design=name)
    model.train()
    sample = draw_sample(0, num_frames=4)
    batch = processor([sample])
    losses = LossConfig(num_points=256, iou=1.0, presence=1.0, candidate="real")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(60):
        optimizer.zero_grad()
        total_loss(model(batch, losses)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    predictor = Predictor(model.eval(), processor)
    options = Options(max_new_tokens=16, num_keyframes=4)
    prediction = predictor.predict(sample.frames, sample.turns[0].question, options=options)
    assert prediction.text == f"Sure, it is {''.join(processor.design.object_tokens(4))}."
    assert len(prediction.objects) == 1
    found, truth = prediction.masks[0], sample.masks[0]
    assert (found & truth).sum() / (found | truth).sum() > 0.6
    picture = predictor.predict(sample.frames[0], sample.turns[0].question, options=Options(max_new_tokens=4))
    assert isinstance(picture.text, str)
