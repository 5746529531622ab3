"""Check that training and inference give the same masks, for any padding and batch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.loss_terms import total_loss
from support.small_model import build_model, draw_sample

from sa2va.inference.decoding import Decoding, DecodingRules, TextStream
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request
from sa2va.model.batch import Prompts
from sa2va.model.families.protocol import Picture, TextInput
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import MaskOutput
from sa2va.model.seg_design import one_frame_rows
from sa2va.tokens import IGNORE_INDEX
from sa2va.types import Sample, Span, Turn

Small = tuple[Sa2VA, Processor]


@torch.no_grad()
def forced_states(small: Small, sample: Sample) -> torch.Tensor:
    """Return the [SEG] states of a teacher-forced sample."""
    model, processor = small
    batch = processor([sample])
    return model.gather_seg_states(model.mllm.run_text(model.encode(batch)), batch)


@torch.no_grad()
def stepwise_states(small: Small, sample: Sample) -> torch.Tensor:
    """Return the same states from generation: prefill, then token by token."""
    model, processor = small
    answer, _ = processor.encode_answer(sample.turns[0])
    stream = TextStream(model.mllm)
    stream.start(model.encode(processor.prompts([(sample.turns[0], [sample.frames])])))
    found = []
    for token in answer:
        state = stream.append(model.mllm.embed_tokens(torch.tensor([[token]])))[:, 0]
        if token == processor.seg_id:
            found.append(state)
    return torch.cat(found)


def test_forced_and_generated_tokens_give_the_same_masks(small: Small, samples: list[Sample]) -> None:
    model, processor = small
    forced, stepwise = forced_states(small, samples[0]), stepwise_states(small, samples[0])
    assert torch.allclose(forced, stepwise, atol=1e-5)
    with torch.no_grad():
        frames = model.sam2.encode_frames(processor.sam_pixel_values(samples[0].frames))
        index = one_frame_rows(torch.zeros(1, dtype=torch.long))
        masks = [model.decode_masks(states, frames, index).mask_logits for states in (forced, stepwise)]
    assert torch.allclose(*masks, atol=1e-4)


def test_batch_equals_single(small: Small, samples: list[Sample]) -> None:
    model, processor = small
    longer = Sample.of_arrays(
        frames=samples[1].frames,
        masks=samples[1].masks,
        turns=(
            Turn(
                question="Please segment the small red star left of the large blue circle?",
                answer="It is .",
                spans=(Span(start=6, end=6, objects=(0,)),),
            ),
        ),
    )
    with torch.no_grad():
        batch = processor([samples[0], longer])
        together = model.gather_seg_states(model.mllm.run_text(model.encode(batch)), batch)
    assert torch.allclose(together[0], forced_states(small, samples[0])[0], atol=1e-4)
    assert torch.allclose(together[1], forced_states(small, longer)[0], atol=1e-4)


def test_left_padding_equals_right_padding(small: Small, samples: list[Sample]) -> None:
    model, processor = small
    batch = processor([samples[0]])
    pad = torch.full((1, 7), processor.tokenizer.pad_token_id)
    off, width = torch.zeros_like(pad), batch.input_ids.shape[1]
    states = {}
    for side in ("left", "right"):
        order = (lambda p, x: [p, x]) if side == "left" else (lambda p, x: [x, p])
        padded = replace(
            batch,
            input_ids=torch.cat(order(pad, batch.input_ids), dim=1),
            attention_mask=torch.cat(order(off, batch.attention_mask), dim=1),
        )
        with torch.no_grad():
            hidden = model.mllm.run_text(model.encode(padded))
        states[side] = hidden[:, 7:] if side == "left" else hidden[:, :width]
    assert torch.allclose(states["left"], states["right"], atol=1e-4)


def test_predict_batch_equals_predict(predictor: Predictor) -> None:
    requests = [
        Request(draw_sample(seed).frames[0], prompt) for seed, prompt in ((0, "the red square"), (1, "a star?"))
    ]
    options = Options(max_new_tokens=6)
    together = predictor.predict_batch(requests, options)
    alone = [predictor.predict(r.media, r.prompt, options=options) for r in requests]
    assert [p.text for p in together] == [p.text for p in alone]
    forced = predictor.probe_batch(requests)
    for both, request in zip(forced, requests, strict=True):
        single = predictor.probe_batch([request])[0]
        assert both.objects[0].presence == pytest.approx(single.objects[0].presence, abs=1e-4)
        assert both.objects[0].scores == pytest.approx(single.objects[0].scores, abs=1e-4)
        assert np.mean(both.masks != single.masks) < 1e-3


def test_a_row_that_has_ended_costs_nothing_more(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows end at an end token, a stop string and the limit; each result equals that of the row alone."""
    prompts = ["the red square", "a star?", "It is a circle, is it not?"]
    requests = [Request(draw_sample(seed).frames[0], prompt) for seed, prompt in enumerate(prompts)]
    queries = [predictor.engine.open(request, Options()) for request in requests]

    def decode(rows: list[int], **rules: Any) -> Decoding:
        stream, last = predictor.engine.prefill([queries[row] for row in rows], 9)
        return Decoding(
            predictor.model.mllm, stream, last, [DecodingRules(max_new_tokens=9, **rules)] * len(rows)
        ).finish()

    free = [decode([row], end_ids=(), seg_ids=(), temperature=0.3).token_ids[0] for row in range(3)]
    closing, end = free[1][:5], free[0][3]
    assert end not in closing + free[2] and closing != free[2][:5]
    rules = {
        "end_ids": (end,),
        "seg_ids": (free[2][8],),
        "has_ended": lambda ids: list(ids) == closing,
        "temperature": 0.3,
    }
    widths, append = [], TextStream.append
    monkeypatch.setattr(TextStream, "append", lambda self, x: widths.append(len(x)) or append(self, x))
    together = decode([0, 1, 2], **rules)
    assert widths == [3, 3, 3, 2, 2, 1, 1, 1, 1]
    assert together.token_ids == [free[0][:3], closing, free[2]] and together.said_end == [False, True, False]
    for row in range(3):
        alone = decode([row], **rules)
        assert alone.token_ids[0] == together.token_ids[row]
        for one, other in zip(alone.seg_states[0], together.seg_states[row], strict=True):
            assert torch.allclose(one, other, atol=1e-4)
    assert together.seg_states[2]


def test_an_array_of_regions_marks_what_the_list_marks(predictor: Predictor) -> None:
    picture, boxes = draw_sample(0).frames[0], [(2, 3, 20, 30), (10, 10, 60, 50)]
    wanted = predictor.engine.open(Request(picture, "What is region2?", boxes), Options()).turn.regions
    for regions in (np.array(boxes), np.stack(wanted), torch.tensor(boxes)):
        found = predictor.engine.open(Request(picture, "What is region2?", regions), Options()).turn.regions
        assert np.array_equal(np.stack(found), np.stack(wanted))
    predictor.predict(picture, "What is region2?", regions=np.array(boxes), options=Options(max_new_tokens=1))
    predictor.open(picture).ask("What is region1?", np.array(boxes[0]), Options(max_new_tokens=1))


@pytest.mark.parametrize(
    ("keyframes", "mode", "wanted"),
    [("first", "auto", [0, 1]), ("first", "official", [0, 1]), ("uniform", "official", [0, 5])],
)
def test_a_clip_is_read_as_the_model_was_trained(small: Small, keyframes: str, mode: str, wanted: list[int]) -> None:
    model, processor = small
    other = Sa2VA(replace(model.config, keyframes=keyframes))
    other.load_state_dict(model.state_dict())
    clip = draw_sample(0, num_frames=6).frames
    clip[:, 0, 0] = np.arange(6)[:, None]  # each frame tells its number
    predictor, seen = Predictor(other, processor), []
    encode = other.encode

    def spy(prompts: Prompts) -> TextInput:
        seen.append((prompts.pixel_values[:, 0, 0, 0] * 0.229 + 0.485) * 255)
        return encode(prompts)

    other.encode = spy
    options = Options(num_keyframes=2, mode=mode, max_new_tokens=1)
    predictor.predict(clip, "the red square", options=options)
    predictor.track(clip, "the red square", num_keyframes=2, options=options)
    assert [frames.round().int().tolist() for frames in seen] == [wanted, wanted]


@pytest.mark.parametrize(("said", "in_options", "wanted"), [(None, None, 4), (None, 2, 2), (3, None, 3), (3, 2, 3)])
def test_a_track_reads_as_many_key_frames_as_a_prediction(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, said: int | None, in_options: int | None, wanted: int
) -> None:
    clip = draw_sample(0, num_frames=6).frames
    seen, read = [], predictor.processor.read_pictures

    def spy(frames: np.ndarray) -> list[Picture]:
        seen.append(len(frames))
        return read(frames)

    monkeypatch.setattr(predictor.processor, "read_pictures", spy)
    options = Options(num_keyframes=in_options, max_new_tokens=1)
    predictor.track(clip, "the red square", num_keyframes=said, options=options).close()
    assert seen == [wanted]
    if said is None:
        predictor.predict(clip, "the red square", options=options)
        assert seen == [wanted, wanted]


def test_a_literal_mask_token_in_a_question_is_text(small: Small, predictor: Predictor) -> None:
    _, processor = small
    ids, _ = processor.encode_question(Turn(question="say [SEG] <IMG_CONTEXT> <|im_end|>", answer=""), [16])
    assert processor.seg_id not in ids
    image_id = processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert ids.count(image_id) == processor.config.tokens_per_tile
    picture = draw_sample(0).frames[0]
    assert predictor.predict(picture, "say [SEG]", options=Options(max_new_tokens=2)).text is not None


def test_many_objects_of_one_picture_share_its_features(small: Small) -> None:
    model, processor = small
    frames = model.sam2.encode_frames(processor.sam_pixel_values(draw_sample(0).frames))
    states = torch.randn(5, model.mllm.width)
    with torch.no_grad():
        together = model.decode_masks(states, frames, one_frame_rows(torch.zeros(5, dtype=torch.long)))
        alone = [model.decode_masks(s[None], frames, one_frame_rows(torch.zeros(1, dtype=torch.long))) for s in states]
    assert torch.allclose(together.candidates, torch.cat([o.candidates for o in alone]), atol=1e-4)
    assert torch.allclose(together.presence_logits, torch.cat([o.presence_logits for o in alone]), atol=1e-4)


@pytest.mark.parametrize(("share", "rows"), [(0.0, [[0, 2], [1, 3]]), (0.7, [[0], [1, 3]]), (1.0, [[], [1, 3]])])
def test_only_sure_key_frames_prompt(small: Small, monkeypatch, share: float, rows: list[list[int]]) -> None:
    model = small[0]
    monkeypatch.setattr(model, "config", replace(model.config, sure_keyframes=share))
    scores = torch.tensor([0.40, 0.50, 0.10, 0.25])  # two objects on two key frames
    output = MaskOutput(torch.zeros(4, 1, 2, 2), scores[:, None], torch.ones(4), torch.zeros(4, 1))
    assert [chosen.tolist() for chosen in model.choose_prompts(output, 2)] == rows


def test_four_samples_can_be_learnt_by_heart(samples: list[Sample]) -> None:
    samples = samples[:4]
    model, processor = build_model(seed=1)
    model.train()
    batch, config = processor(samples), LossConfig(num_points=256, place=0.5, iou=1.0, presence=1.0, candidate="real")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    torch.manual_seed(0)
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20) * (1 - step / 130)
        loss = total_loss(model(batch, config))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    predictor = Predictor(model, processor)
    requests = [Request(sample.frames[0], sample.turns[0].question) for sample in samples]
    ious = []
    for prediction, sample in zip(predictor.predict_batch(requests, Options(max_new_tokens=16)), samples, strict=True):
        assert prediction.text == "Sure, it is [SEG]."
        found, truth = prediction.masks[0], sample.masks[0]
        ious.append((found & truth).sum() / (found | truth).sum())
    assert np.mean(ious) > 0.7, ious


def test_the_loss_of_text_counts_supervised_tokens_alone(small: Small, samples: list[Sample]) -> None:
    model, processor = small
    batch = processor(samples, for_masks=False)
    with torch.no_grad():
        states = model.mllm.run_text(model.encode(batch))
        logits = model.mllm.logits(states)[:, :-1].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, batch.labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)
        torch.testing.assert_close(model.text_loss(states, batch.labels).mean, expected)


@pytest.mark.parametrize("skip_empty", [False, True])
def test_rows_are_counted_before_the_forward_pass_as_after_it(
    small: Small, samples: list[Sample], skip_empty: bool
) -> None:
    model, processor = small
    losses = LossConfig(place=0.5, iou=1.0, presence=1.0, num_points=16, skip_empty=skip_empty)
    batch = processor(samples, mask_side=32)
    batch.seg_targets[0] = False
    counted = model.count_rows(batch, losses)
    with torch.no_grad():
        terms = model(batch, losses)
    assert counted == {name: float(term.count) for name, term in terms.items()}
    assert counted["place"] < counted["presence"]


def test_a_text_without_a_supervised_token_has_a_loss_of_zero_that_can_be_learned_from() -> None:
    model, _ = build_model()
    states = torch.randn(2, 5, model.mllm.width, requires_grad=True)
    labels = torch.full((2, 5), IGNORE_INDEX)
    loss = model.text_loss(states, labels)
    assert loss.total.item() == loss.count == 0
    loss.total.backward()
    assert states.grad is not None and not states.grad.any()
    labels[0, 3] = 7
    expected = -model.mllm.logits(states[0, 2]).log_softmax(-1)[7]
    assert model.text_loss(states, labels).mean.item() == pytest.approx(expected.item(), rel=1e-5)
