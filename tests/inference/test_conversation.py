"""Check that a conversation encodes a picture once and answers as a fresh prompt with the same turns does."""

import numpy as np
import pytest
import torch
from support.small_model import build_model, draw_sample

from sa2va.inference.decoding import Decoding
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request
from sa2va.model.sam.sam2 import Sam2

NUM_QUESTIONS = 3


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the frames that SAM 2's image encoder runs on."""
    counted: list[int] = []
    encode = Sam2.encode_frames
    monkeypatch.setattr(Sam2, "encode_frames", lambda self, x: counted.append(len(x)) or encode(self, x))
    return counted


def answer_with_masks(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, num_words: int = 1) -> None:
    """Force every answer to be a short text with one mask."""
    ids = predictor.processor.tokenizer.encode("It is", add_special_tokens=False)[:num_words]
    coming = [*ids, predictor.processor.seg_id, predictor.processor.end_ids[0]]
    said = iter(coming * NUM_QUESTIONS)
    monkeypatch.setattr(Decoding, "_choose", lambda self: torch.tensor([next(said)]))


def test_a_picture_is_seen_once_and_no_mask_changes(seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(*build_model())
    picture = draw_sample(0).frames[0]
    answer_with_masks(predictor, monkeypatch)
    talk = predictor.open(picture)
    answers = [talk.ask(f"Where is it, {number}?") for number in range(NUM_QUESTIONS)]
    assert seen == [1] and all(len(answer.objects) == 1 for answer in answers)
    anew = predictor.engine.encode_pictures([predictor.engine.open(Request(picture, "Where?"), Options())])
    for one, other in zip(
        (talk._features.embeds, *talk._features.high_res), (anew.embeds, *anew.high_res), strict=True
    ):
        assert np.array_equal(one.numpy(), other.numpy())


def test_a_picture_without_masks_is_not_shown_to_sam2(seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(*build_model())
    end = predictor.processor.end_ids[0]
    monkeypatch.setattr(Decoding, "_choose", lambda self: torch.tensor([end]))
    talk = predictor.open(draw_sample(0).frames[0])
    assert not talk.ask("What?").objects and not talk.ask("And now?").objects
    assert seen == []


def test_a_clip_is_followed_anew_for_every_answer(seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(*build_model())
    clip = np.concatenate([draw_sample(seed).frames for seed in range(3)])
    answer_with_masks(predictor, monkeypatch)
    talk = predictor.open(clip)
    first, second = (talk.ask("Where is it?") for _ in range(2))
    assert talk._features is None and first.masks.shape == second.masks.shape == (1, 3, *clip.shape[1:3])


def test_a_conversation_begun_in_inference_mode_goes_on_outside_it() -> None:
    predictor = Predictor(*build_model())
    options = Options(max_new_tokens=3)
    talk, other = (predictor.open(draw_sample(0).frames[0]) for _ in range(2))
    with torch.inference_mode():
        talk.ask("What?", options=options)
    other.ask("What?", options=options)
    assert talk.ask("And now?", options=options).text == other.ask("And now?", options=options).text


def test_an_answer_that_is_not_read_to_its_end_is_forgotten() -> None:
    """The next answers are as if the question had never been asked."""
    predictor, picture, options = Predictor(*build_model()), draw_sample(0).frames[0], Options(max_new_tokens=12)
    asked, plain = predictor.open(picture), predictor.open(picture)
    for number in range(2):
        left = asked.stream(f"Describe it, {number}.", options=options)
        next(left)
        left.close()
        questions = [f"How many, {number}?", "And where?"]
        for question in questions:
            assert asked.ask(question, options=options).text == plain.ask(question, options=options).text
    assert asked._stream is not None and plain._stream is not None
    assert asked._stream.length == plain._stream.length


def test_one_answer_at_a_time() -> None:
    talk, options = Predictor(*build_model()).open(draw_sample(0).frames[0]), Options(max_new_tokens=12)
    first = talk.stream("What is it?", options=options)
    next(first)
    with pytest.raises(ValueError, match="still being streamed"):
        talk.ask("And where?")
    list(first)
    assert isinstance(talk.ask("And where?", options=options).text, str)


def test_a_question_that_is_too_long_is_refused_and_forgotten() -> None:
    predictor, options = Predictor(*build_model()), Options(max_new_tokens=4)
    most = predictor.model.mllm.native.config.get_text_config().max_position_embeddings
    talk = predictor.open(draw_sample(0).frames[0])
    for _ in range(2):
        with pytest.raises(ValueError, match=f"this language model reads at most {most}"):
            talk.ask("red " * most, options=options)
        talk.ask("What is it?", options=options)


def test_a_question_leaves_room_for_its_answer() -> None:
    predictor = Predictor(*build_model())
    most = predictor.model.mllm.native.config.get_text_config().max_position_embeddings
    picture = draw_sample(0).frames[0]
    stream, _ = predictor.engine.prefill([predictor.engine.open(Request(picture, "What is it?"), Options())], 1)
    room = most - stream.next_positions[0]
    used = stream.next_positions[0]
    message = f"take {used} positions and the answer needs {room + 1},.*at most {most};.*at most {room} or"
    for ask in (predictor.predict, lambda media, prompt, options: predictor.open(media).ask(prompt, options=options)):
        with pytest.raises(ValueError, match=message):
            ask(picture, "What is it?", options=Options(max_new_tokens=room + 1))
    predictor.engine.prefill([predictor.engine.open(Request(picture, "What is it?"), Options())], room)
    talk = predictor.open(picture)
    talk.ask("What is it?", options=Options(max_new_tokens=4))
    assert talk._stream is not None
    length = talk._stream.length
    with pytest.raises(ValueError, match="set max_new_tokens to at most"):
        talk.ask("And where?", options=Options(max_new_tokens=room))
    assert talk._stream.length == length


def test_an_answer_never_runs_past_what_the_language_model_has_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default an answer fills the context length; a prompt that leaves fewer than 64 tokens is refused."""
    predictor, picture = Predictor(*build_model()), draw_sample(0).frames[0]
    text = predictor.model.mllm.native.config.get_text_config()
    stream, _ = predictor.engine.prefill([predictor.engine.open(Request(picture, "What is it?"), Options())], 1)
    number = stream.next_positions[0]
    seen: list[int] = []
    monkeypatch.setattr(
        Decoding, "_choose", lambda self: torch.tensor([seen.append(self._stream.next_positions[0]) or 5])
    )
    monkeypatch.setattr(text, "max_position_embeddings", number + 64)
    predictor.predict(picture, "What is it?")
    assert seen == list(range(number, number + 64))
    monkeypatch.setattr(text, "max_position_embeddings", number + 63)
    with pytest.raises(ValueError, match=f"take {number} positions and the answer needs 64, .*at most {number + 63};"):
        predictor.predict(picture, "What is it?")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(" ", "the prompt is empty"), (5, "expected text, got int"), ("caf\udce9", "not valid UTF-8")],
)
def test_what_is_no_text_is_no_question(prompt: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(draw_sample(0).frames[0], prompt)


@pytest.mark.parametrize("temperature", [1e-40, 1e-320])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    predictor, media = Predictor(*build_model()), draw_sample(0).frames[0]
    greedy = predictor.predict(media, "what?", options=Options(max_new_tokens=4))
    options = Options(max_new_tokens=4, temperature=temperature)
    assert predictor.predict(media, "what?", options=options).text == greedy.text
