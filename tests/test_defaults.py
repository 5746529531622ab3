"""Check that nothing depends on torch's default dtype and device, and that they come back as they were."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.small_model import draw_sample
from support.torch_defaults import CHANGES, check_answers

from sa2va import load
from sa2va.model.torch_defaults import plain_defaults

QUESTION = "Please segment the red circle."


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


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("run", [predict, track])
def test_answers_are_the_same_bit_for_bit_under_other_defaults(
    change: Callable[[], None], run: Callable[[Any], list[Any]], usual_defaults: None
) -> None:
    check_answers(change, load, run)


def test_the_last_of_several_threads_brings_the_defaults_back(usual_defaults: None) -> None:
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


def test_a_failure_brings_the_defaults_back(usual_defaults: None) -> None:
    torch.set_default_dtype(torch.float64)
    with pytest.raises(ValueError, match="no model"):
        load("nowhere")
    with pytest.raises(RuntimeError), plain_defaults():
        raise RuntimeError
    assert torch.get_default_dtype() == torch.float64
