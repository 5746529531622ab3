"""Check the session: objects that come and go between frames, sources that end or break, nothing left behind."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import build_model, draw_sample
from stock_sam2 import build_sam2

from sa2va.media import VideoWriter, open_media, save_image
from sa2va.model.predictor import Predictor
from sa2va.model.processor import Processor
from sa2va.model.projector import SegProjector, SegProjectorConfig
from sa2va.model.prompter import Answer, Prompter
from sa2va.model.results import FrameResult, Options
from sa2va.model.sa2va import Sa2VA
from sa2va.model.session import TrackSession

Small = tuple[Sa2VA, Processor]
NUM_FRAMES = 10
BOX = (8, 12, 40, 44)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.concatenate([draw_sample(seed).frames for seed in range(NUM_FRAMES)])


@pytest.fixture(scope="module")
def lively() -> Small:
    """A model whose masks depend on what is remembered, as those of the usual small model hardly do."""
    model, processor = build_model()
    model.config = replace(model.config, gate_absent=False)
    model.sam2 = build_sam2()
    model.projector = SegProjector(SegProjectorConfig(in_dim=model.mllm.width, out_dim=model.sam2.width))
    return model.eval(), processor


@pytest.fixture
def start(lively: Small) -> Callable[..., TrackSession]:
    """Start a session without a language model, or with one that finds as many objects as asked."""
    model, processor = lively

    def build(source: Any, *, num_found: int | None = None, prompted: int = 0, **how: Any) -> TrackSession:
        states = torch.randn(8, model.mllm.width, generator=torch.Generator().manual_seed(1))

        def ask(frames: np.ndarray, expression: str) -> Answer:
            assert frames.shape == (1, 64, 64, 3)
            assert num_found is not None
            return Answer(f"about {expression}", states[:num_found], [None] * num_found)

        media = open_media(source)
        ask_or_none = None if num_found is None else ask
        session = TrackSession(Prompter(model, Options()), processor, media, ask=ask_or_none, **how)
        if prompted:
            session.prompt(Answer("", states[:prompted], [None] * prompted), [0, 1], media.peek(2))
        return session

    return build


def square() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


def assert_same(one: FrameResult, other: FrameResult, tolerance: float = 1e-4) -> None:
    assert (one.index, one.time) == (other.index, other.time)
    assert [o.id for o in one.objects] == [o.id for o in other.objects]
    for a, b in zip(one.objects, other.objects, strict=True):
        assert np.mean(a.mask != b.mask) < 1e-3
        assert abs(a.presence - b.presence) <= tolerance and abs(a.score - b.score) <= tolerance


def run_to(session: TrackSession, index: int) -> FrameResult:
    return next(result for result in session if result.index == index)


# ---- sources


def test_every_kind_of_source_gives_the_same(
    start: Callable[..., TrackSession], clip: np.ndarray, tmp_path: Path
) -> None:
    for index, frame in enumerate(clip):
        save_image(tmp_path / f"{index:03d}.png", frame)
    whole = list(start(clip, prompted=2))
    assert [result.index for result in whole] == list(range(NUM_FRAMES))
    for source in (iter(clip), tmp_path):
        for one, other in zip(start(source, prompted=2), whole, strict=True):
            assert_same(one, other, 0.0)


@pytest.mark.parametrize("how", [{"chunk": 4}, {"prefetch": False}, {"chunk": 3, "prefetch": False}, {"chunk": 99}])
def test_chunks_and_prefetch_change_nothing(
    start: Callable[..., TrackSession], clip: np.ndarray, how: dict[str, Any]
) -> None:
    for one, other in zip(start(clip, prompted=2, **how), start(clip, prompted=2), strict=True):
        assert_same(one, other)


def test_a_broken_source_fails_at_its_frame(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from clip[:3]
        raise OSError("the cable was pulled")

    session, seen = start(frames(), prompted=1), []
    with pytest.raises(OSError, match="cable"):
        for result in session:
            seen.append(result.index)
    assert seen == [0, 1, 2] and list(session) == []


def test_a_source_without_frames_says_so(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start(iter(clip[:2]))
    assert len(list(session)) == 2 and next(session, None) is None
    with pytest.raises(ValueError, match="it ended before the first frame"):
        start(iter(()))


def encode_clip(path: Path, *, rotation: int = 0, ticks: list[int] | None = None, num_frames: int = 8) -> Path:
    av = pytest.importorskip("av")
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast", "x264-params": "threads=1:keyint=4:bframes=0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            picture = np.full((48, 64, 3), 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = (ticks[index] if ticks else 40 * index), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_in_the_middle(path: Path) -> Path:
    """Damage a packet: what does not decode repeats its neighbour."""
    data = bytearray(encode_clip(path).read_bytes())
    start = data.index(b"mdat")
    data[start + 200 : start + 260] = bytes(60)
    path.write_bytes(data)
    return path


def claim_more_frames(path: Path) -> Path:
    """Write a header that announces twice the duration."""
    data = bytearray(encode_clip(path).read_bytes())
    start = data.index(b"mvhd") + 4
    duration = int.from_bytes(data[start + 16 : start + 20], "big")
    data[start + 16 : start + 20] = (2 * duration).to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.mark.filterwarnings("ignore:.*damaged")
@pytest.mark.parametrize(
    ("write", "num_frames", "size", "times"),
    [
        (encode_clip, 8, (48, 64), [0.04 * t for t in range(8)]),
        (lambda path: encode_clip(path, rotation=90), 8, (64, 48), None),
        (lambda path: encode_clip(path, ticks=[0, 10, 300, 310, 500, 900, 910, 2000]), 8, (48, 64), [0, 0.01, 0.3]),
        (lambda path: encode_clip(path, num_frames=1), 1, (48, 64), [0]),
        (cut_in_the_middle, 8, (48, 64), None),
        (claim_more_frames, 8, (48, 64), None),
    ],
    ids=["plain", "rotated", "variable rate", "one frame", "damaged", "wrong length"],
)
def test_odd_videos(
    start: Callable[..., TrackSession],
    tmp_path: Path,
    write: Callable[[Path], Path],
    num_frames: int,
    size: tuple[int, int],
    times: list[float] | None,
) -> None:
    session = start(write(tmp_path / "clip.mp4"))
    session.add(box=(4, 4, 30, 30))
    results = list(session)
    assert [result.index for result in results] == list(range(num_frames))
    assert all(found.mask.shape == size for result in results for found in result.objects)
    if times is not None:
        assert [r.time for r in results][: len(times)] == pytest.approx(times, abs=1e-3)


# ---- nothing left behind


def open_files(path: Path) -> int:
    return sum(link.exists() and link.resolve() == path for link in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("close", ["close", "with", "forget"])
@pytest.mark.parametrize("num_read", [0, 2])
def test_a_stream_left_unread_is_closed(
    start: Callable[..., TrackSession], clip: np.ndarray, tmp_path: Path, close: str, num_read: int
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for frame in clip:
            video.write(frame)
    threads = threading.active_count()
    session = start(tmp_path / "clip.mp4", prompted=1)
    for _ in range(num_read):
        next(session)
    assert threading.active_count() == threads + (num_read > 0)
    if close == "with":
        with session:
            pass
    elif close == "close":
        session.close()
    if close != "forget":
        assert next(session, None) is None
    del session
    gc.collect()
    for _ in range(100):  # a forgotten thread ends by itself, soon
        if threading.active_count() == threads:
            break
        time.sleep(0.02)
    assert threading.active_count() == threads
    assert open_files(tmp_path / "clip.mp4") == 0


def test_state_does_not_grow(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start((clip[t % NUM_FRAMES] for t in range(40)), prompted=1, max_conditioning=2)
    for result in session:
        if result.index % 5 == 4:
            session.correct(1, point=(20, 20))
        (memory,) = session._tracker.objects.values()
        assert len(memory.prompted) <= 3 and len(memory.recent) <= 6 and len(memory.pointers) <= 15
        assert not session._ahead or result.index < 1
    assert result.index == 39


# ---- objects


def test_without_objects_nothing_is_encoded(
    start: Callable[..., TrackSession], clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a frame was encoded")

    monkeypatch.setattr(Sa2VA, "decode_masks", refuse)
    monkeypatch.setattr(Prompter, "encode", refuse)
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
    assert (first.mask != before).any() and (second.mask != first.mask).any()
    assert session._clicks[1].labels == (1, 0)
    assert sorted(memory.prompted) == [0, 1, 4] and 4 not in dict(memory.recent)
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
    (lambda s: s.add(mask=(5, 5, 9, 9)), r"mask: expected bool \(64, 64\)"),
    (lambda s: s.add(expression="the moon"), "no language model"),
    (lambda s: s.correct(7, point=(1, 1)), r"there is no object 7; the session follows \[1\]"),
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
    def ask(frames: np.ndarray, prompt: str, options: Options) -> Answer:
        number = len(prompt)
        states = torch.randn(number, predictor.model.mllm.width, generator=torch.Generator().manual_seed(number))
        return Answer(prompt, states, [prompt] * number)

    monkeypatch.setattr(predictor, "_ask", ask)
    session = predictor.track(clip, ["a", "bb"], num_keyframes=2)
    assert session.text == "a\nbb" and session.ids == [1, 2, 3]
    alone = predictor.track(clip, "bb", num_keyframes=2)
    for result, expected in zip(session, alone, strict=True):
        assert [found.phrase for found in result.objects] == ["a", "bb", "bb"]
        for one, other in zip(result.objects[1:], expected.objects, strict=True):
            assert abs(one.score - other.score) < 1e-4 and np.mean(one.mask != other.mask) < 1e-3


def test_regions_are_cut_out_without_the_language_model(
    predictor: Predictor, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "_prefill", None)
    regions = [square(), BOX, (20, 20), [(10, 10), (30, 30)]]
    picture = predictor.segment_regions(clip[0], regions)
    assert picture.masks.shape == (4, 1, 64, 64) and np.mean(picture.masks[0, 0] != square()) < 0.01
    assert predictor.segment_regions(clip, regions[:2]).masks.shape == (2, NUM_FRAMES, 64, 64)
    with pytest.raises(ValueError, match="outside"):
        predictor.segment_regions(clip[0], [(90, 90)])
