"""Check that concurrent calls of one predictor give the results of sequential calls, bit for bit."""

import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.shapes import CIRCLE, SQUARE, draw_shapes
from support.small_families import build_family

from sa2va import load
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request
from sa2va.inference.results import Prediction
from sa2va.media.source import open_media

NUM_THREADS = 8
pytestmark = pytest.mark.filterwarnings("ignore:the embedded model knows")
Job = Callable[[Predictor], list[Any]]


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def describe(*predictions: Prediction) -> list[Any]:
    return [
        (p.text, [(o.id, o.phrase, o.presence, o.scores.tobytes(), str(o.rles)) for o in p.objects])
        for p in predictions
    ]


def to_png(picture: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def predict(predictor: Predictor) -> list[Any]:
    return describe(predictor.predict(to_png(draw_shapes()[0]), CIRCLE))


def sample(predictor: Predictor) -> list[Any]:
    options = Options(temperature=1.5, seed=3, max_new_tokens=12)
    return describe(predictor.predict(draw_shapes(background=90)[0], "What is this?", options=options))


def predict_batch(predictor: Predictor) -> list[Any]:
    pictures = draw_shapes(2)
    requests = [Request(pictures[0], SQUARE), Request(pictures[1], CIRCLE), Request(pictures[1], "How many squares?")]
    return describe(*predictor.predict_batch(requests, Options(max_new_tokens=12)))


def talk(predictor: Predictor) -> list[Any]:
    conversation = predictor.open(draw_shapes()[0])
    pieces = list(conversation.stream("What color is the square?", options=Options(max_new_tokens=8)))
    return [pieces, *describe(conversation.ask(SQUARE, options=Options(max_new_tokens=12)))]


def track(predictor: Predictor) -> list[Any]:
    options = Options(max_new_tokens=12)
    found: list[Any] = []
    with predictor.track(draw_shapes(4), [CIRCLE, SQUARE], num_keyframes=2, options=options) as session:
        for result in session:
            found += [(o.id, o.presence, o.score, o.mask.tobytes()) for o in result.objects]
            if result.index == 1:
                session.add(box=(60, 30, 120, 90))
    return found


JOBS: list[Job] = [predict, sample, predict_batch, talk, track]


def run_at_once(predictor: Predictor, jobs: list[Job]) -> list[list[Any]]:
    """Run every job in a thread of its own, started at the same moment."""
    start = Barrier(len(jobs))

    def run(job: Job) -> list[Any]:
        start.wait()
        return job(predictor)

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def check(predictor: Predictor, dtype: torch.dtype | None = None) -> None:
    alone = {job: job(predictor) for job in JOBS}
    jobs = [JOBS[number % len(JOBS)] for number in range(NUM_THREADS)]
    if dtype is not None:
        torch.set_default_dtype(dtype)
    try:
        found = run_at_once(predictor, jobs)
        assert torch.get_default_dtype() == (dtype or torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    for job, one in zip(jobs, found, strict=True):
        assert one == alone[job], job.__name__


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["plain defaults", "other defaults"])
def test_threads_get_the_answers_of_one_after_the_other(dtype: torch.dtype | None) -> None:
    check(load("tiny", device="cpu"), dtype)


def test_threads_of_bfloat16() -> None:
    check(load("tiny", device="cpu", dtype="bfloat16"))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_threads_of_a_family_with_positions_in_three_directions(kind: str) -> None:
    check(Predictor(*build_family(kind)))


def test_threads_that_open_pictures_leave_the_filters_of_warnings_alone() -> None:
    content, before = to_png(draw_shapes()[0]), list(warnings.filters)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for _ in range(50):
            list(pool.map(open_media, [content] * NUM_THREADS))
    assert list(warnings.filters) == before
