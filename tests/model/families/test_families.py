"""Compare every family with its stock Transformers class: states, answers, batches, padding, follow-ups."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.small_families import OFFICIAL, build_family, build_tokenizer
from torch import Tensor

from sa2va.inference.decoding import Decoding, DecodingRules, TextStream
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request
from sa2va.model import attention
from sa2va.model.attention import BLOCKWISE
from sa2va.model.batch import Prompts
from sa2va.model.families import base
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Frames, Sample, Span, Turn

KINDS = list(OFFICIAL)
TALK = (
    Turn(question="Where?", answer="It is .", spans=(Span(start=6, end=6, objects=(0,)),)),
    Turn(question="And what is it now?", answer="A cat  there.", spans=(Span(start=2, end=5, objects=(0,)),)),
)


def draw(*shape: int, seed: int = 0) -> Frames:
    """Return random pixels: (T, H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


QUESTIONS = [
    (Turn(question="What?", answer=""), [draw(1, 40, 90)]),
    (Turn(question="Which of these is the larger one?", answer=""), [draw(2, 50, 50, seed=1)]),
    (Turn(question="Both?", answer=""), [draw(1, 64, 30, seed=2), draw(1, 30, 100, seed=3)]),
]


def stock_model(kind: str) -> Any:
    """Build a second native model with the same weights, independent of our code."""
    native = build_family(kind)[0].mllm.native
    stock = type(native)(native.config).eval()
    stock.load_state_dict(native.state_dict())
    return stock


def stock_inputs(stock: Any, prompts: Prompts) -> dict[str, Any]:
    """Return the inputs of the stock class for the same prompts."""
    inputs: dict[str, Any] = {"input_ids": prompts.input_ids, "attention_mask": prompts.attention_mask}
    inputs["pixel_values"] = prompts.pixel_values
    if len(prompts.grids):
        is_image = prompts.input_ids == stock.config.image_token_id
        inputs |= {"image_grid_thw": prompts.grids, "mm_token_type_ids": is_image.int()}
    return inputs


def decode(kind: str, prompts: Prompts, number: int) -> Decoding:
    mllm = build_family(kind)[0].mllm
    stream = TextStream(mllm)
    last = stream.start(mllm.embed_inputs(prompts))[:, -1]
    rules = DecodingRules(end_ids=(), seg_ids=(), max_new_tokens=number)
    return Decoding(mllm, stream, last, [rules] * len(last)).finish()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_states_and_scores_are_those_of_the_stock_class(kind: str) -> None:
    model, processor = build_family(kind)
    stock, seen = stock_model(kind), []
    stock.model.language_model.layers[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    for question in QUESTIONS:
        prompts = processor.prompts([question])
        output = stock(**stock_inputs(stock, prompts), output_hidden_states=True)
        stream = TextStream(model.mllm)
        states = stream.start(model.encode(prompts))
        wanted = seen[-1] if kind == "qwen3_vl" else output.hidden_states[-1]  # before the norm, or after it
        assert torch.allclose(states, wanted, atol=1e-5)
        assert torch.allclose(model.mllm.logits(states), output.logits, atol=1e-5)
        assert not torch.allclose(seen[-1], output.hidden_states[-1], atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_answers_are_those_of_stock_generation(kind: str) -> None:
    processor, stock = build_family(kind)[1], stock_model(kind)
    stock.generation_config.eos_token_id = None
    for question in QUESTIONS:
        prompts = processor.prompts([question])
        found = stock.generate(
            **stock_inputs(stock, prompts), max_new_tokens=6, do_sample=False, pad_token_id=processor.pad_id
        )
        assert decode(kind, prompts, 6).token_ids == [found[0, prompts.input_ids.shape[1] :].tolist()]


@pytest.mark.parametrize("kind", ["internvl_phi3", "llava"])
@torch.no_grad()
def test_squares_one_by_one_equal_squares_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mllm = build_family(kind)[0].mllm
    side = mllm.native.config.vision_config.image_size
    side = side if isinstance(side, int) else side[0]
    pixels, grids = torch.randn(3, 3, side, side), torch.zeros(0, 3, dtype=torch.long)
    expected = mllm.native.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
    for most in (1, 2 * side**2, 3 * side**2):
        monkeypatch.setattr(base, "PIXELS_AT_ONCE", most)
        torch.testing.assert_close(mllm.encode_images(pixels, grids).tokens, torch.cat(list(expected)))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_image_encoder_and_text_model_attend_in_blocks(kind: str) -> None:
    mllm = build_family(kind)[0].mllm
    assert mllm.vision_tower.config._attn_implementation == BLOCKWISE
    assert mllm.text_model.config._attn_implementation == BLOCKWISE
    assert BLOCKWISE not in str(mllm.native.config.to_dict())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_prompt_in_bfloat16_attends_in_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = build_family(kind)
    mllm, attended, attend = deepcopy(model.mllm).bfloat16(), [], attention._attend_causal
    monkeypatch.setattr(attention, "_attend_causal", lambda *inputs: attended.append(attend(*inputs)) or attended[-1])
    prompts = processor.prompts(QUESTIONS[:1])
    TextStream(mllm).start(mllm.embed_inputs(prompts))
    assert len(attended) == mllm.text_model.config.num_hidden_layers


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_batch_equals_single(kind: str) -> None:
    model, processor = build_family(kind)
    together = processor.prompts(QUESTIONS)
    states = TextStream(model.mllm).start(model.encode(together))[:, -1]
    for row, question in enumerate(QUESTIONS):
        alone = TextStream(model.mllm).start(model.encode(processor.prompts([question])))[:, -1]
        assert torch.allclose(states[row], alone[0], atol=1e-5)
    singles = [decode(kind, processor.prompts([question]), 5).token_ids[0] for question in QUESTIONS]
    assert decode(kind, together, 5).token_ids == singles


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_left_padding_equals_right_padding(kind: str) -> None:
    model, processor = build_family(kind)
    prompts = processor.prompts(QUESTIONS[2:])
    pad, width = torch.full((1, 7), processor.pad_id), prompts.input_ids.shape[1]
    states = []
    for order in (lambda p, x: [p, x]), (lambda p, x: [x, p]):
        ids = torch.cat(order(pad, prompts.input_ids), dim=1)
        mask = torch.cat(order(torch.zeros_like(pad), prompts.attention_mask), dim=1)
        states.append(model.mllm.run_text(model.encode(replace(prompts, input_ids=ids, attention_mask=mask))))
    assert torch.allclose(states[0][:, 7:], states[1][:, :width], atol=1e-5)


def stream_states(kind: str, sample: Sample) -> list[Tensor]:
    """Return the states at [SEG] of a conversation on a KV cache: prompt, answer, follow-up, answer."""
    model, processor = build_family(kind)
    stream, found = TextStream(model.mllm), []
    for number, turn in enumerate(sample.turns):
        if number == 0:
            stream.start(model.encode(processor.prompts([(turn, [sample.frames])])))
        else:
            stream.append(model.mllm.embed_tokens(torch.tensor([processor.encode_follow_up(turn)])))
        for token in processor.encode_answer(turn)[0]:
            embeds = model.mllm.embed_tokens(torch.tensor([[token]]))
            aside = stream.probe(embeds.flip(-1).repeat(1, 3, 1))  # must leave no trace
            assert aside.shape[1] == 3
            state = stream.append(embeds)[0, 0]
            if token == processor.seg_id:
                found.append(state)
    return found


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_talk_held_open_equals_the_talk_at_once(kind: str) -> None:
    model, processor = build_family(kind)
    frames = draw(2, 48, 80, seed=5)
    sample = Sample.of_arrays(frames=frames, turns=TALK, masks=np.ones((1, 2, 48, 80), bool))
    other = Sample.of_arrays(frames=frames, turns=TALK[1:], masks=sample.masks)
    batch = processor([sample, other], for_masks=False)
    at_once = model.gather_seg_states(model.mllm.run_text(model.encode(batch)), batch)
    opened = stream_states(kind, sample)
    assert len(at_once) == 3 and len(opened) == 2
    assert torch.allclose(at_once[:2], torch.stack(opened), atol=1e-5)


@pytest.mark.parametrize("kind", ["internvl_phi3", "qwen2_5_vl", "qwen3_vl", "llava"])
def test_predictor_serves_every_family(kind: str) -> None:
    predictor = Predictor(*build_family(kind))
    requests = [Request(seen[0][0], turn.question) for turn, seen in QUESTIONS]
    options = Options(max_new_tokens=4)
    together = predictor.probe_batch(requests)
    for prediction, request in zip(together, requests, strict=True):
        alone = predictor.probe_batch([request])[0]
        assert prediction.objects[0].presence == pytest.approx(alone.objects[0].presence, abs=1e-4)
    talks = [predictor.open(requests[0].media) for _ in range(2)]
    first, _ = (talk.ask("What?", options=options) for talk in talks)
    assert first.text == predictor.predict(requests[0].media, "What?", options=options).text
    pieces = "".join(talks[1].stream("And now?", options=options))  # lacks a last letter that is not complete
    assert talks[0].ask("And now?", options=options).text.startswith(pieces.strip())


def test_an_answer_that_ends_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    built, _ = build_family("internvl_qwen2")
    tokenizer = build_tokenizer("<|user|>", "<|assistant|>", "<|end|>")
    mllm = built.config.mllm | {"image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")}
    model = Sa2VA(replace(built.config, mllm=mllm, template="phi3_chat")).eval()
    coming = iter([*tokenizer.encode("It is [SEG].<|end|>"), *tokenizer.encode("Yes <|e <|end|> more")])
    monkeypatch.setattr(Decoding, "_choose", lambda self: torch.tensor([next(coming)]))
    seen = []
    append = TextStream.append
    monkeypatch.setattr(TextStream, "append", lambda self, x: seen.append(x.shape[1]) or append(self, x))
    talk = Predictor(model, Processor(model.config, tokenizer)).open(draw(48, 48))
    first = talk.ask("What?")
    assert first.text == "It is [SEG]." and len(first.objects) == 1
    num_said = len(seen)
    pieces = list(talk.stream("Really?"))
    assert "".join(pieces) == "Yes <|e " and not any(piece.endswith(("<", "<|")) for piece in pieces)
    follow_up = "\n<|user|>\nReally?<|end|>\n<|assistant|>\n"  # the end is there already
    assert seen[num_said] == len(tokenizer.encode(follow_up))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "llava"])
def test_a_region_for_a_model_that_takes_none(kind: str) -> None:
    with pytest.raises(ValueError, match=f"a {kind} model takes no regions; describe the object in words") as error:
        Predictor(*build_family(kind)).predict(draw(64, 64), "What is region1?", regions=[(10, 10)])
    assert "\n" not in str(error.value)


def test_pictures_of_another_prompt_are_refused() -> None:
    model, processor = build_family("qwen3_vl")
    prompts = processor.prompts(QUESTIONS[:1])
    with pytest.raises(ValueError, match="image tokens in the text, 3 visual tokens"):
        model.encode(replace(prompts, visual_index=prompts.visual_index[:3]))


def texts(processor: Processor, rows: Sequence[list[int]]) -> list[str]:
    image = processor.family.image_token
    return [processor.decode(row).replace(image * 2, "*").replace(image, "*").replace("**", "*") for row in rows]


@pytest.mark.parametrize(
    ("kind", "first", "after"),
    [
        (
            "internvl_qwen2",
            "<|im_start|>user\n<img>*</img>\n<img>*</img>Hi <p>!<|im_end|>\n<|im_start|>assistant\n",
            "<|im_end|>\n<|im_start|>user\nHi <p>!<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "internvl_phi3",
            "<|user|>\n<img>*</img>\n<img>*</img>Hi <p>!<|end|>\n<|assistant|>\n",
            "<|end|>\n<|user|>\nHi <p>!<|end|>\n<|assistant|>\n",
        ),
        (
            "llava",
            "USER: *\n*\nHi <p>! ASSISTANT:",
            "</s>\nUSER: Hi <p>! ASSISTANT:",
        ),
        (
            "qwen3_vl",
            "<|im_start|>user\n<|vision_start|>*<|vision_end|><|vision_start|>*<|vision_end|>Hi <p>!<|im_end|>\n"
            "<|im_start|>assistant\n",
            "<|im_end|>\n<|im_start|>user\nHi <p>!<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_prompts_as_published(kind: str, first: str, after: str) -> None:
    _, processor = build_family(kind)
    turn = Turn(question="Hi <p>!", answer="")
    ids, index = processor.encode_question(turn, [4, 4])
    follow_up = processor.encode_follow_up(turn)
    assert texts(processor, [ids, follow_up]) == [first, after]
    assert index == list(range(8))
    phrase = processor.tokenizer.convert_tokens_to_ids("<p>")
    assert phrase not in ids + follow_up  # a user's token is text
    stop = {"internvl_phi3": "<|end|>", "llava": "</s>"}.get(kind, "<|endoftext|>")
    assert processor.tokenizer.convert_tokens_to_ids(stop) in processor.end_ids
    assert processor.tokenizer.eos_token_id in processor.end_ids
