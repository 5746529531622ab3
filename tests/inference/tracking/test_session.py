"""Check the session: add, correct and remove objects between frames; objects leave and return."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.small_session import BOX, NUM_FRAMES, assert_same, run_to, square

from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options
from sa2va.inference.tracking import mask_prompting
from sa2va.inference.tracking.frames import FrameStream
from sa2va.inference.tracking.mask_prompting import GroundedAnswer, MaskPrompting
from sa2va.inference.tracking.session import TrackSession
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.model.seg_design import SEG_DESIGNS

Small = tuple[Sa2VA, Processor]


def test_state_does_not_grow(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start((clip[t % NUM_FRAMES] for t in range(40)), prompted=1, max_conditioning=2)
    for result in session:
        if result.index % 5 == 4:
            session.correct(1, point=(20, 20))
        (memory,) = session._tracker.objects.values()
        assert len(memory.prompted) <= 3 and len(memory.recent) <= 6 and len(memory.pointers) <= 15
        assert not session._ahead or result.index < 1
    assert result.index == 39


@pytest.mark.parametrize("design", ["single", "repeat"])
def test_groups_of_key_frames_change_nothing(
    lively: Small, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, design: str
) -> None:
    model, processor = lively
    monkeypatch.setattr(model, "design", SEG_DESIGNS[design])
    per_object = len(model.design.object_tokens(5))
    states = torch.randn(3, per_object, model.mllm.width, generator=torch.Generator().manual_seed(1))
    prompting, found = MaskPrompting(model, Options()), {}
    with torch.inference_mode():
        for size in (1, 2, 5):
            monkeypatch.setattr(mask_prompting, "frames_at_once", lambda device, size=size: size)
            found[size] = prompting.decode_keyframes(states, clip[:5], processor)
        whole = prompting.encode(processor.sam_frames(clip[:5]))
        expected = prompting.decode_states(states, whole)
    for one in found.values():
        assert len(one.features) == 5 and one.given is None
        torch.testing.assert_close(one.output.candidates, expected.candidates, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.output.pointers, expected.pointers, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.cat([own.embeds for own in one.features]), whole.embeds, atol=1e-4, rtol=1e-4)
    assert expected.candidates.std(0).max() > 0.1  # rows differ, so their order counts


def test_a_key_frame_is_encoded_once(
    start: Callable[..., TrackSession], clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prompt_on_first(self: Sa2VA, output: MaskOutput, num_frames: int) -> list[torch.Tensor]:
        return [
            torch.arange(0, len(output.pointers), num_frames),
            *[torch.zeros(0, dtype=torch.long)] * (num_frames - 1),
        ]

    encode, sizes = MaskPrompting.encode, []
    monkeypatch.setattr(MaskPrompting, "encode", lambda self, x: sizes.append(len(x)) or encode(self, x))
    monkeypatch.setattr(Sa2VA, "choose_prompts", prompt_on_first)
    session = start(clip, prompted=1)
    assert sum(sizes) == 2 and list(session._stream._known) == [1]  # frame 0 is prompted, so it is never tracked
    kept = list(session)
    assert sum(sizes) == NUM_FRAMES and not session._stream._known
    monkeypatch.setattr(FrameStream, "keep", lambda self, index, features: None)
    for one, other in zip(kept, start(clip, prompted=1), strict=True):
        assert_same(one, other, 0.0)


@pytest.mark.parametrize("closes", [False, True])
def test_memory_that_runs_out_ahead_of_a_frame(
    start: Callable[..., TrackSession], clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    encode, memory = MaskPrompting.encode, [1]

    def run_out(self: MaskPrompting, sam_frames: torch.Tensor) -> FrameFeatures:
        if not memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, sam_frames)

    monkeypatch.setattr(MaskPrompting, "runs_ahead", True)
    monkeypatch.setattr(MaskPrompting, "encode", run_out)
    session = start(clip)
    session.add(box=BOX)
    memory.clear()
    assert next(session).objects  # the next frame is encoded ahead, which fails
    if closes:
        session.close()
        assert not list(session)
    else:
        with pytest.raises(ValueError, match="^out of memory for this request"):
            next(session)


# ---- objects


def test_without_objects_nothing_is_encoded(
    start: Callable[..., TrackSession], clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a frame was encoded")

    monkeypatch.setattr(Sa2VA, "decode_masks", refuse)
    monkeypatch.setattr(MaskPrompting, "encode", refuse)
    assert [result.objects for result in start(clip)] == [()] * NUM_FRAMES


@pytest.mark.parametrize(
    "what", [{"point": (20, 20)}, {"point": [(12, 14), (20, 22), (30, 33)]}, {"box": BOX}, {"mask": square()}]
)
def test_an_object_added_between_frames(
    start: Callable[..., TrackSession], clip: np.ndarray, what: dict[str, Any]
) -> None:
    session, alone = start(clip, prompted=1), start(clip, prompted=1)
    run_to(session, 3), run_to(alone, 3)
    assert session.add(**what) == 2
    assert [found.id for found in session.current.objects] == [1, 2]
    if "mask" in what:
        assert np.mean(session.current.objects[1].mask != square()) < 0.01
        assert session.current.objects[1].presence > 0.99
    for result, without in zip(session, alone, strict=True):
        assert [found.id for found in result.objects] == [1, 2]
        assert_same(replace(result, objects=result.objects[:1]), without)


def test_an_object_added_before_the_first_frame(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start(iter(clip))
    assert np.array_equal(session.frame, clip[0])
    session.add(mask=square())
    results = list(session)
    assert [result.index for result in results] == list(range(NUM_FRAMES))
    assert np.mean(results[0].objects[0].mask != square()) < 0.01


@pytest.mark.parametrize(("num_found", "key", "ids"), [(0, None, [1]), (1, 2, [1, 2]), (2, 2, [1, 2, 3])])
def test_an_expression_asks_about_the_present_frame(
    start: Callable[..., TrackSession], clip: np.ndarray, num_found: int, key: int | None, ids: list[int]
) -> None:
    session = start(clip, num_found=num_found, prompted=1)
    run_to(session, 4)
    assert session.add(expression="the red square") == key
    assert session.text == "about the red square" and session.ids == ids
    assert [found.phrase for found in session.current.objects] == [None] + ["the red square"] * num_found
    assert [found.id for found in next(session).objects] == ids


def test_a_removed_object_is_gone_and_its_id_too(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session, kept = start(clip, prompted=2), start(clip, prompted=2)
    run_to(session, 3), run_to(kept, 3)
    session.remove(1)
    assert [found.id for found in session.current.objects] == [2]
    for result, other in zip(session, kept, strict=True):
        assert_same(result, replace(other, objects=other.objects[1:]), 1e-3)
    assert session.add(point=(5, 5)) == 3 and session.ids == [2, 3]


@pytest.mark.parametrize("what", [{"mask": square()}, {"box": BOX}])
def test_a_new_description_forgets_what_was_before(
    start: Callable[..., TrackSession], clip: np.ndarray, what: dict[str, Any]
) -> None:
    session, fresh, kept = start(clip, prompted=1), start(clip), start(clip, prompted=1)
    for one in (session, fresh, kept):
        run_to(one, 4)
    repaired = session.correct(1, **what)
    fresh.add(**what)
    assert np.array_equal(repaired.mask, session.current.objects[0].mask)
    changed = []
    for result, expected, other in zip(session, fresh, kept, strict=True):
        assert_same(result, expected)
        changed.append((result.objects[0].mask != other.objects[0].mask).any())
    assert any(changed)


def test_an_expression_may_correct(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session, fresh = start(clip, num_found=2, prompted=1), start(clip, num_found=1)
    run_to(session, 4), run_to(fresh, 4)
    assert session.correct(1, expression="the blue square").phrase == "the blue square"
    fresh.add(expression="the blue square")
    assert session.ids == [1]
    for result, expected in zip(session, fresh, strict=True):
        assert_same(result, expected)
    with pytest.raises(ValueError, match="the model finds nothing on frame 0"):
        start(clip, num_found=0, prompted=1).correct(1, expression="the moon")


def test_clicks_refine_and_stay_together(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start(clip, prompted=1)
    run_to(session, 4)
    before = session.current.objects[0].mask
    (memory,) = session._tracker.objects.values()
    first = session.correct(1, point=(20, 20))
    second = session.correct(1, point=(50, 50), inside=False)
    assert (first.mask != before).any() and first.mask[20, 20]
    assert second.mask[20, 20] or not second.mask[50, 50]
    assert session._clicks[1].labels == (1, 0) and first.presence > 0.99
    next(session)
    assert session._clicks == {}


def test_an_object_that_leaves_and_returns_keeps_its_id(
    lively: Small, start: Callable[..., TrackSession], clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = lively
    monkeypatch.setattr(model, "config", replace(model.config, gate_absent=True))
    session, decode = start(clip, prompted=1), model.sam2.decode
    away = {4, 5, 6}

    def staged(*args: Any, **kwargs: Any) -> Any:
        output = decode(*args, **kwargs)
        logit = -5.0 if session._next_frame in away else 5.0
        return replace(output, presence_logits=torch.full_like(output.presence_logits, logit))

    session._next_frame = 2
    monkeypatch.setattr(model.sam2, "decode", staged)
    for result in session:
        (found,) = result.objects
        assert found.id == 1
        if result.index >= 2:
            assert (found.presence < 0.1) == (result.index in away) == (not found.mask.any())
            session._next_frame = result.index + 1


def test_rewinding_equals_tracking_the_clip_backwards(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    forward, backward = start(clip), start(clip[::-1])
    run_to(forward, 6), run_to(backward, NUM_FRAMES - 7)
    for session in (forward, backward):
        session.add(mask=square())
    found = list(forward.rewind(1))
    assert [result.index for result in found] == [5, 4, 3, 2, 1, 0]
    for result, mirrored in zip(found, backward, strict=True):
        assert_same(replace(result, index=0, time=0.0), replace(mirrored, index=0, time=0.0))
    assert next(forward).index == 7  # and the way on is as it was


def test_a_picture_is_a_clip_of_one_frame(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start(clip[0], prompted=0)
    key = session.add(point=(20, 20))
    fixed = session.correct(key, point=(40, 40), inside=False)
    (result,) = session
    assert np.array_equal(result.objects[0].mask, fixed.mask)
    assert list(session.rewind(key)) == []


BAD: list[tuple[Callable[[TrackSession], Any], str]] = [
    (lambda s: s.add(), "expected exactly one of expression, point, box, mask, got none"),
    (lambda s: s.add(point=(1, 1), box=BOX), "got point and box"),
    (lambda s: s.add(point=(70, 3)), "the point lies outside the 64x64 picture"),
    (lambda s: s.add(point=(1, 2, 3)), r"expected \(x, y\) or a scribble"),
    (lambda s: s.add(box=(5, 5, 5, 9)), "x0 < x1"),
    (lambda s: s.add(box=(5, 5, 9)), "expected x0,y0,x1,y1 in px"),
    (lambda s: s.add(mask=np.zeros((64, 64), bool)), "no pixel"),
    (lambda s: s.add(mask=np.ones((9, 9), bool)), "mask: expected bool"),
    (lambda s: s.add(mask=(5, 5, 9, 9)), r"mask: expected bool or uint8 \(64, 64\)"),
    (lambda s: s.add(mask=square() * 0.9), "got float64 of shape"),
    (lambda s: s.correct(1, mask=np.full((64, 64), np.nan)), "got float64 of shape"),
    (lambda s: s.add(expression="the moon"), "no language model"),
    (lambda s: s.correct(7, point=(1, 1)), r"there is no object 7; the session tracks \[1\]"),
    (lambda s: s.correct(1), "expected exactly one of point, box, mask, expression"),
    (lambda s: s.remove(2), "there is no object 2"),
    (lambda s: s.rewind(2), "there is no object 2"),
    (lambda s: s.rewind(1), "it cannot be rewound"),
]


@pytest.mark.parametrize(("act", "message"), BAD, ids=range(len(BAD)))
def test_bad_calls_say_what_to_do_and_change_nothing(
    start: Callable[..., TrackSession], clip: np.ndarray, act: Callable[[TrackSession], Any], message: str
) -> None:
    session = start(iter(clip[:3]), prompted=1)
    next(session)
    with pytest.raises(ValueError, match=message) as error:
        act(session)
    assert "\n" not in str(error.value)
    assert session.ids == [1] and [found.id for found in next(session).objects] == [1]


@pytest.mark.parametrize(
    ("how", "message"), [({"chunk": 0}, "chunk is 0"), ({"max_conditioning": 0}, "max_conditioning is 0")]
)
def test_bad_settings_are_refused(
    start: Callable[..., TrackSession], clip: np.ndarray, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        start(clip, **how)


# ---- through the predictor


def test_the_predictor_starts_sessions(predictor: Predictor, clip: np.ndarray) -> None:
    with predictor.track(clip) as session:
        assert next(session).objects == () and session.ids == []
        session.add(box=BOX)
        assert [found.id for found in next(session).objects] == [1]
    assert [result.index for result in predictor.stream(iter(clip), "Please segment the red square.")] == list(
        range(10)
    )
    for prompt, message in ((" ", "the prompt is empty"), ([], "at least one")):
        with pytest.raises(ValueError, match=message):
            predictor.track(clip, prompt)


def test_several_prompts_are_followed_together(
    predictor: Predictor, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(frames: np.ndarray, prompts: list[str], options: Options, stop: object) -> list[GroundedAnswer]:
        width = predictor.model.mllm.width
        states = [
            torch.randn(len(prompt), 1, width, generator=torch.Generator().manual_seed(len(prompt)))
            for prompt in prompts
        ]
        return [GroundedAnswer(p, one, [p] * len(p)) for p, one in zip(prompts, states, strict=True)]

    monkeypatch.setattr(predictor.engine, "answer_about", answer)
    session = predictor.track(clip, ["a", "bb"], num_keyframes=2)
    assert session.text == "a\nbb" and session.ids == [1, 2, 3]
    alone = predictor.track(clip, "bb", num_keyframes=2)
    for result, expected in zip(session, alone, strict=True):
        assert [found.phrase for found in result.objects] == ["a", "bb", "bb"]
        for one, other in zip(result.objects[1:], expected.objects, strict=True):
            assert abs(one.score - other.score) < 1e-4 and np.mean(one.mask != other.mask) < 1e-3
    named = next(iter(predictor.track(clip, {"a": "one", "bb": "two"}, num_keyframes=2)))
    assert [found.phrase for found in named.objects] == ["one", "two", "two"]


def test_regions_are_cut_out_without_the_language_model(
    predictor: Predictor, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor.engine, "prefill", None)
    regions = [square(), BOX, (20, 20), [(10, 10), (30, 30)]]
    picture = predictor.segment_regions(clip[0], regions)
    assert picture.masks.shape == (4, 1, 64, 64) and np.mean(picture.masks[0, 0] != square()) < 0.01
    assert predictor.segment_regions(clip, regions[:2]).masks.shape == (2, NUM_FRAMES, 64, 64)
    several = predictor.segment_regions(clip[0], np.array([BOX, (4, 4, 30, 30)]))
    assert several.masks.shape == (2, 1, 64, 64)
    with pytest.raises(ValueError, match="outside"):
        predictor.segment_regions(clip[0], [(90, 90)])
