"""Check batches as a server runs them: options, errors, stop flags per request, out of memory, encoders run once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.shapes import CIRCLE, SQUARE, draw_shapes
from support.small_model import draw_sample
from torch import nn

from sa2va import load
from sa2va.inference.halving import ADVICE
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Cancelled, Options, Request
from sa2va.inference.results import FrameResult, Prediction
from sa2va.media.pictures import save_image
from sa2va.media.source import open_media
from sa2va.model.sam.sam2 import Sam2

pytestmark = pytest.mark.filterwarnings("ignore:the embedded model knows")
CAPTION = "Please describe the image with interleaved masks."


@pytest.fixture(scope="module")
def tiny() -> Predictor:
    return load("tiny", device="cpu")


def assert_same(one: Prediction, other: Prediction) -> None:
    assert one.text == other.text
    assert [o.phrase for o in one.objects] == [o.phrase for o in other.objects]
    assert one.masks.shape == other.masks.shape and np.sum(one.masks != other.masks) <= 1e-3 * one.masks.size


def test_each_request_of_a_batch_has_its_own_options(tiny: Predictor) -> None:
    picture = draw_shapes()[0]
    options = [
        Options(),
        Options(max_new_tokens=3),
        Options(temperature=1.5, seed=1),
        Options(temperature=1.5, seed=2, max_new_tokens=40),
        Options(max_objects=1),
        Options(mask_threshold=100.0),
    ]
    prompts = [CIRCLE, CAPTION, CAPTION, CAPTION, CAPTION, SQUARE]
    alone = [tiny.predict(picture, prompt, options=one) for prompt, one in zip(prompts, options, strict=True)]
    assert len(set(one.text for one in alone)) >= 5 and len(alone[4].objects) == 1
    assert alone[0].masks.any() and not alone[5].masks.any() and len(alone[5].objects) == 1
    requests = [Request(picture, prompt) for prompt in prompts]
    own = [Request(picture, prompt, options=one) for prompt, one in zip(prompts, options, strict=True)]
    for together in (tiny.predict_batch(requests, options), tiny.predict_batch(own, Options(max_new_tokens=1))):
        for one, other in zip(together, alone, strict=True):
            assert_same(one, other)
    with pytest.raises(ValueError, match="5 options for 6 requests; give one for each, or one for all"):
        tiny.predict_batch(requests, options[:5])


def test_a_short_prompt_beside_a_long_one_has_all_its_room(tiny: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, engine = draw_shapes()[0], tiny.engine
    requests = [Request(picture, CAPTION), Request(picture, f"{SQUARE} " * 9)]
    lengths = [engine.prefill([engine.open(request)], 1)[0].next_positions[0] for request in requests]
    assert lengths[1] > lengths[0] + 20
    alone = tiny.predict(picture, CAPTION, options=Options(max_new_tokens=20))
    text = tiny.model.mllm.native.config.get_text_config()
    monkeypatch.setattr(text, "max_position_embeddings", lengths[0] + 64)
    both = tiny.answer_batch(requests, Options(max_new_tokens=20))
    assert both[0].unwrap().text == alone.text
    with pytest.raises(ValueError, match="set max_new_tokens to at most"):
        both[1].unwrap()


def test_a_bad_request_fails_alone(tiny: Predictor, tmp_path: Path) -> None:
    picture = draw_shapes()[0]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    requests = [
        Request(picture, CIRCLE),
        Request(tmp_path / "missing.png", CIRCLE),
        Request(tmp_path / "broken.png", CIRCLE),
        Request(picture, "What is region1?", [(500, 500)]),
        Request(picture, f"{SQUARE} " * 800),
        Request(draw_shapes(3), SQUARE),
        Request(picture, SQUARE, options="greedy"),  # ty: ignore[invalid-argument-type]
    ]
    results = tiny.answer_batch(requests, Options(num_keyframes=2))
    messages = [str(result.error) for result in results if result.error is not None]
    wanted = ["missing.png", "broken.png", "outside", "read at most|reads at most", "expected Options"]
    assert [result.error is None for result in results] == [True, False, False, False, False, True, False]
    for message, part in zip(messages, wanted, strict=True):
        assert any(one in message for one in part.split("|")) and "\n" not in message
    assert_same(results[0].unwrap(), tiny.predict(picture, CIRCLE))
    assert results[5].unwrap().masks.shape == (1, 3, 96, 128)
    with pytest.raises(ValueError, match=r"missing\.png"):
        tiny.predict_batch(requests)
    assert tiny.answer_batch([]) == [] and tiny.predict_batch([]) == []


# ---- stop flags


class Flag:
    """Stop flag that is set after a number of calls."""

    def __init__(self, after: int) -> None:
        self.after, self.num_asked = after, 0

    def __call__(self) -> bool:
        self.num_asked += 1
        return self.num_asked > self.after


@contextmanager
def counted(module: nn.Module) -> Iterator[list[int]]:
    """Count the rows of each call of a module."""
    calls: list[int] = []
    handle = module.register_forward_pre_hook(
        lambda _, args, named: calls.append(len(next(iter([*args, *named.values()])))), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


def test_a_cancelled_answer_ends_before_the_next_token(tiny: Predictor) -> None:
    picture = draw_shapes()[0]
    head = tiny.model.mllm.native.lm_head
    with counted(head) as calls:
        full = tiny.predict(picture, CAPTION)
    num_tokens = len(calls)
    assert num_tokens > 10
    for ask in (tiny.predict, lambda media, prompt, stop: tiny.open(media).ask(prompt, stop=stop)):
        with counted(head) as calls, pytest.raises(Cancelled):
            ask(picture, CAPTION, stop=Flag(4))
        assert calls == [1] * 4
    event = threading.Event()
    with counted(head) as calls:
        requests = [Request(picture, CAPTION), Request(picture, CAPTION, stop=Flag(3)), Request(picture, CAPTION)]
        event.set()
        results = tiny.answer_batch([*requests, Request(picture, CAPTION, stop=event.is_set)])
    assert calls == [3] * 3 + [2] * (num_tokens - 3)
    assert [type(result.error) for result in results] == [type(None), Cancelled, type(None), Cancelled]
    for row in (0, 2):
        assert_same(results[row].unwrap(), full)
    with pytest.raises(ValueError, match="stop True: expected a function"):
        tiny.predict(picture, CAPTION, stop=True)  # ty: ignore[invalid-argument-type]


def test_a_cancelled_question_is_forgotten(tiny: Predictor) -> None:
    talk, other = (tiny.open(draw_shapes()[0]) for _ in range(2))
    first = talk.ask(CIRCLE)
    pieces: list[str] = []
    with pytest.raises(Cancelled):
        for piece in talk.stream(CAPTION, stop=Flag(5)):
            pieces.append(piece)
    assert pieces
    with pytest.raises(Cancelled):
        talk.ask(CAPTION, stop=Flag(2))
    assert_same(first, other.ask(CIRCLE))
    assert_same(talk.ask(SQUARE), other.ask(SQUARE))


def test_a_cancelled_track_ends_before_the_next_frame(tiny: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, event = draw_shapes(8), threading.Event()
    seen: list[FrameResult] = []
    session = tiny.track(clip, CIRCLE, num_keyframes=2, stop=event.is_set)
    with counted(tiny.model.sam2.native.mask_decoder.conv_s0) as calls, pytest.raises(Cancelled):
        for result in session:
            seen.append(result)
            if result.index == 3:
                event.set()
                done = len(calls)
    assert len(seen) == 4 and len(calls) == done
    with counted(tiny.model.mllm.native.lm_head) as calls, pytest.raises(Cancelled):
        tiny.track(clip, [CIRCLE, SQUARE], stop=event.is_set)
    assert calls == []
    options = Options(num_keyframes=2)
    with counted(tiny.model.mllm.native.lm_head) as calls:
        tiny.predict(clip, CIRCLE, options=options)
    with counted(tiny.model.sam2.native.mask_decoder.conv_s0) as encoded, pytest.raises(Cancelled):
        tiny.predict(clip, CIRCLE, options=options, stop=Flag(len(calls) + 4))
    assert encoded == [1] * 5  # both key frames, then frames 1, 2 and 3; frame 0 is a key frame
    session = tiny.track(clip, stop=(late := Flag(5)))
    next(result for result in session if result.index == 3)
    session.add(box=(14, 14, 50, 50))
    back = []
    with pytest.raises(Cancelled):
        for result in session.rewind(1):
            back.append(result.index)
    assert back == [2] and late.num_asked == 6


def test_options_choose_the_key_frames(tiny: Predictor) -> None:
    clip = draw_shapes(9)
    for choice, expected in (("first", [0, 1, 2]), ("uniform", [0, 4, 8]), (None, [0, 4, 8])):
        query = tiny.engine.open(Request(clip, CIRCLE), Options(keyframes=choice, num_keyframes=3))
        assert query.keyframes == expected


# ---- memory that runs out


@contextmanager
def too_large(predictor: Predictor, most: int, error: Callable[[], BaseException]) -> Iterator[list[int]]:
    """Make the language model run out of memory beyond a number of rows; list the rows of each call."""
    rows: list[int] = []

    def check(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        rows.append(len(args[0]))
        if len(args[0]) > most:
            raise error()

    handle = predictor.model.mllm.native.get_input_embeddings().register_forward_pre_hook(check)
    try:
        yield rows
    finally:
        handle.remove()


ERRORS: list[Callable[[], BaseException]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried"),
    lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "ram", "ram, older"])
def test_a_batch_that_does_not_fit_is_answered_in_halves(
    predictor: Predictor, error: Callable[[], BaseException]
) -> None:
    requests = [Request(draw_sample(seed).frames[0], "the red square") for seed in range(5)]
    options = Options(max_new_tokens=3)
    alone = [predictor.predict(request.media, request.prompt, options=options) for request in requests]
    with too_large(predictor, 2, error) as rows:
        found = predictor.predict_batch(requests, options)
        forced = predictor.probe_batch(requests)
    assert rows[:3] == [5, 2, 2] and max(rows[1:]) <= 5 and [one.text for one in found] == [one.text for one in alone]
    assert [len(one.objects) for one in forced] == [1] * 5
    with too_large(predictor, 0, error):
        for ask in (predictor.predict, lambda media, prompt: predictor.open(media).ask(prompt)):
            with pytest.raises(ValueError, match=ADVICE):
                ask(requests[0].media, "the red square")
        results = predictor.answer_batch(requests)
    assert [str(result.error) for result in results] == [ADVICE] * 5 and "\n" not in ADVICE
    assert predictor.predict(requests[0].media, "the red square", options=options).text == alone[0].text


def test_masks_that_do_not_fit_are_drawn_in_halves(tiny: Predictor) -> None:
    requests = [Request(draw_shapes(background=200 - 20 * n)[0], CIRCLE) for n in range(4)]
    alone = [tiny.predict(request.media, request.prompt) for request in requests]

    def check(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if len(kwargs["image_embeddings"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = tiny.model.sam2.native.mask_decoder.register_forward_pre_hook(check, with_kwargs=True)
    try:
        found = tiny.predict_batch(requests)
    finally:
        handle.remove()
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


def test_a_question_that_failed_in_the_middle_of_the_model_is_forgotten(tiny: Predictor) -> None:
    talk, other = (tiny.open(draw_shapes()[0]) for _ in range(2))
    for one in (talk, other):
        one.ask(CIRCLE)
    last = tiny.model.mllm.native.model.language_model.layers[-1]

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = last.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ValueError, match=ADVICE):
            talk.ask(CAPTION)
    finally:
        handle.remove()
    assert_same(talk.ask(SQUARE), other.ask(SQUARE))


def test_other_errors_are_not_taken_for_memory(predictor: Predictor) -> None:
    requests = [Request(draw_sample(seed).frames[0], "the red square") for seed in range(2)]
    with too_large(predictor, 0, lambda: RuntimeError("a shape is wrong")) as rows:
        with pytest.raises(RuntimeError, match="a shape is wrong"):
            predictor.predict_batch(requests)
    assert rows == [2]


# ---- key frames are read once


def test_several_expressions_share_their_key_frames(tiny: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, shown = draw_shapes(6), []
    encode = Sam2.encode_frames
    monkeypatch.setattr(Sam2, "encode_frames", lambda self, x: shown.append(len(x)) or encode(self, x))
    with counted(tiny.model.mllm.native.model.vision_tower) as seen:
        session = tiny.track(clip, [CIRCLE, SQUARE, CIRCLE], num_keyframes=3)
    assert seen == [3] and shown == [1, 1, 1] and session.ids == [1, 2, 3]
    together = list(session)
    for key, prompt in ((1, CIRCLE), (2, SQUARE)):
        alone = list(tiny.track(clip, prompt, num_keyframes=3))
        for result, expected in zip(together, alone, strict=True):
            one, other = result.objects[key - 1], expected.objects[0]
            assert np.mean(one.mask != other.mask) < 1e-3 and one.score == pytest.approx(other.score, abs=1e-4)
    assert session.text == "\n".join(tiny.track(clip, p, num_keyframes=3).text for p in (CIRCLE, SQUARE, CIRCLE))


# ---- sources of strangers


def test_a_server_takes_content_and_no_paths(tmp_path: Path) -> None:
    save_image(tmp_path / "shapes.png", draw_shapes()[0])
    content = (tmp_path / "shapes.png").read_bytes()
    closed = load("tiny", device="cpu", allow_paths=False)
    assert len(closed.predict(content, CIRCLE).objects) == 1
    for source in (tmp_path / "shapes.png", str(tmp_path / "shapes.png"), "http://example.org/a.png", 0):
        for use in (closed.open, closed.track, lambda media: closed.predict(media, CIRCLE)):
            with pytest.raises(ValueError, match="not opened here; give the content of the file, as bytes"):
                use(source)
        with pytest.raises(ValueError, match="not opened here"):
            closed.track(source, allow_stream=True)
    (result,) = closed.answer_batch([Request(images=[content, tmp_path / "shapes.png"], prompt=CIRCLE)])
    assert "not opened here" in str(result.error)


def test_requests_about_one_picture_encode_it_once(tiny: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, other = draw_sample(0).frames[0], draw_sample(1).frames[0]
    requests = [Request(frame, "the red square"), Request(other, "a star"), Request(frame.copy(), "the circle")]
    alone = [tiny.probe_batch([request])[0] for request in requests]
    seen, encode = [], Sam2.encode_frames
    monkeypatch.setattr(Sam2, "encode_frames", lambda self, x: seen.append(len(x)) or encode(self, x))
    together = tiny.probe_batch(requests)
    assert sum(seen) == 2
    for one, single in zip(together, alone, strict=True):
        assert len(one.objects) == 1
        assert_same(one, single)


def test_requests_about_one_open_clip_are_tracked_together(tiny: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, other = open_media(draw_shapes(6)), open_media(draw_shapes(5))
    prompts = [CIRCLE, "Is it day?", SQUARE]
    requests = [Request(clip, prompt) for prompt in prompts]
    requests += [Request(other, CIRCLE), Request(clip, SQUARE, stop=Flag(99))]
    alone = [tiny.predict_batch([request])[0] for request in requests]
    seen, encode = [], Sam2.encode_frames
    monkeypatch.setattr(Sam2, "encode_frames", lambda self, x: seen.append(len(x)) or encode(self, x))
    together = tiny.predict_batch(requests)
    assert sum(seen) == 6 + 5 + 6  # a request that can be cancelled runs by itself
    for one, single in zip(together, alone, strict=True):
        assert_same(one, single)
        assert [found.id for found in one.objects] == [found.id for found in single.objects]
    assert [len(one.objects) for one in together] == [1, 0, 1, 1, 1]
