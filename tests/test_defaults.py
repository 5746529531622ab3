"""Check that nothing depends on torch's default dtype and device, and that they come back as they were."""

import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
import torch
from support.small_model import draw_sample

from sa2va import load, load_gaze
from sa2va.model.torch_defaults import plain_defaults

QUESTION = "Please segment the red circle."


@pytest.fixture(autouse=True)
def as_before() -> Generator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def use_float64() -> None:
    torch.set_default_dtype(torch.float64)


def use_meta() -> None:
    torch.set_default_device("meta")


def pictures() -> np.ndarray:
    return draw_sample(1, num_frames=4).frames


def predict(predictor: Any) -> list[Any]:
    found = predictor.predict(pictures()[0], QUESTION)
    chat = predictor.open(pictures()[0])
    said = [*chat.stream("What color is the square?"), chat.ask("How many squares are there?").text]
    return [found.text, said, *(item.masks for item in found.objects), *(item.scores for item in found.objects)]


def track(predictor: Any) -> list[Any]:
    frames, out = pictures(), []
    with predictor.track(frames, QUESTION) as session:
        key = session.add(box=(4, 4, 30, 30))
        for frame in session:
            out += [(item.id, item.presence, item.score) for item in frame.objects]
            out += [item.mask for item in frame.objects]
            if frame.index == 1:
                session.correct(key, point=(10, 10))
    return out


def look(gazer: Any) -> list[Any]:
    return gazer.predict(pictures()[0], "the red square", num_samples=3, seed=5)


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("change", [use_float64, use_meta])
@pytest.mark.parametrize(
    ("build", "run"), [(load, predict), (load, track), (load_gaze, look)], ids=["predict", "track", "gaze"]
)
def test_answers_are_the_same_bit_for_bit_under_other_defaults(
    change: Callable[[], None], build: Callable[..., Any], run: Callable[[Any], list[Any]]
) -> None:
    early = build("tiny", device="cpu")
    before = run(early)
    change()
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    late = build("tiny", device="cpu")
    during = [run(early), run(late)]
    assert (torch.get_default_dtype(), torch.get_default_device()) == (dtype, device)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    assert before and all(same(before, each) for each in (*during, run(early), run(late)))


def test_the_last_of_several_threads_brings_the_defaults_back() -> None:
    torch.set_default_dtype(torch.float64)
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with plain_defaults():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait(10)
    with plain_defaults():
        assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_dtype() == torch.float32  # the other thread is still at work
    leave.set()
    thread.join()
    assert torch.get_default_dtype() == torch.float64


def test_a_failure_brings_the_defaults_back() -> None:
    torch.set_default_dtype(torch.float64)
    with pytest.raises(ValueError, match="no model"):
        load("nowhere")
    with pytest.raises(RuntimeError), plain_defaults():
        raise RuntimeError
    assert torch.get_default_dtype() == torch.float64
