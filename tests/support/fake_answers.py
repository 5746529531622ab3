"""Stand in for a model: answer drawn-world questions from the truth, or not at all, or like another scene."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sa2va.evaluation.benchmark import Benchmark, ask_each
from sa2va.evaluation.stamp import Run
from sa2va.inference.results import ObjectMasks, Prediction
from sa2va.masks import encode_rle
from sa2va.media.source import open_media
from sa2va.types import Sample, Turn

STAMP = Run(
    model="fake",
    model_hash="0123",
    dtype="float32",
    device="cpu",
    libraries={"torch": "2.0"},
    code_hash="1-4567",
)


def fake(text: str, masks: np.ndarray, presence: float = 1.0, score: ArrayLike = 1.0) -> Prediction:
    """Return a prediction of masks (N, T, H, W) with one score, or one for each of N."""
    ranks = np.broadcast_to(score, len(masks))
    objects = tuple(
        ObjectMasks(
            id=number,
            phrase=None,
            presence=presence,
            scores=np.full(masks.shape[1], ranks[number - 1], np.float32),
            rles=tuple(encode_rle(mask) for mask in track),
        )
        for number, track in enumerate(masks, 1)
    )
    media = open_media(np.zeros((*masks.shape[1:], 3), np.uint8))
    return Prediction(text=text, media=media, num_frames=masks.shape[1], objects=objects)


Reply = Callable[[Sample, Turn, bool], Prediction]


def identify(media: np.ndarray, prompt: str) -> str:
    return sha256(np.ascontiguousarray(media).tobytes() + prompt.encode()).hexdigest()


class FakePredictor:
    """Recognise the items of a benchmark and answer each with a function of the truth."""

    def __init__(self, benchmark: Benchmark[Sample], answer: Reply) -> None:
        self._answer = answer
        self._known: dict[str, tuple[Sample, Turn]] = {}
        self.asked: list[int] = []  # requests per call
        for sample in map(benchmark.load, range(len(benchmark))):
            for request, turn in zip((benchmark.ask or ask_each)(sample), sample.turns, strict=False):
                self._known[identify(request.media, request.prompt)] = (sample, turn)

    def predict_batch(self, requests: Sequence[Any], options: Any = None, forced: bool = False) -> list[Any]:
        self.asked.append(len(requests))
        return [self._answer(*self._known[identify(r.media, r.prompt)], forced) for r in requests]

    def probe_batch(self, requests: Sequence[Any], options: Any = None) -> list[Any]:
        return self.predict_batch(requests, options, forced=True)


def tell_truth(sample: Sample, turn: Turn, forced: bool) -> Prediction:
    rows = [row for span in turn.spans for row in span.objects]
    masks = sample.masks[rows] if rows else no_masks(sample)
    present = float(len(rows) > 0)
    if forced and not rows:
        masks = np.zeros((1, *sample.frames.shape[:3]), bool)
    return fake(turn.answer, masks, presence=present, score=1.0)


def say_nothing(sample: Sample, turn: Turn, forced: bool) -> Prediction:
    masks = np.zeros((1, *sample.frames.shape[:3]), bool) if forced else no_masks(sample)
    return fake("", masks)


def no_masks(sample: Sample) -> np.ndarray:
    return np.zeros((0, *sample.frames.shape[:3]), bool)
