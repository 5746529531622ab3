"""Stand in for a model: masks what is dark, says so, and keeps what it was asked."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import sa2va
from sa2va.inference.requests import Options, Request
from sa2va.inference.results import BatchResult, FrameObject, FrameResult, ObjectMasks, Prediction
from sa2va.masks import encode_rle
from sa2va.media.source import Media, open_media


class ToyConversation:
    """A conversation that answers with the number of the question."""

    def __init__(self, predictor: "ToyPredictor", media: Media) -> None:
        self.predictor, self.media, self.num_questions = predictor, media, 0

    def ask(self, prompt: str, regions: Sequence[Any] | None = None, options: Options | None = None) -> Prediction:
        self.num_questions += 1
        self.predictor.options.append(options)
        return self.predictor.predict(self.media, prompt, regions=regions)

    def stream(self, prompt: str, options: Options | None = None) -> Iterator[str]:
        self.num_questions += 1
        self.predictor.options.append(options)
        yield from (f"answer {self.num_questions}", " to ", prompt)


class ToyPredictor:
    """A predictor with the face of the real one; "nothing" in a prompt is never there."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.options: list[Options | None] = []  # of the questions of conversations

    def predict(
        self, media: Any, prompt: str, *, regions: Sequence[Any] | None = None, options: Options | None = None
    ) -> Prediction:
        self.asked.append((prompt, regions))
        opened = open_media(media)
        frames = np.stack(list(opened))  # (T, H, W, 3)
        if "nothing" in prompt:
            return Prediction(text="There is no nothing.", media=opened, num_frames=len(frames))
        item = ObjectMasks(
            id=1,
            phrase=None,
            presence=0.97,
            scores=np.full(len(frames), 0.88, np.float32),
            rles=tuple(dict(encode_rle(frame.mean(-1) < 128)) for frame in frames),
        )
        return Prediction(text="It is [SEG].", media=opened, num_frames=len(frames), objects=(item,))

    def predict_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        return [self.predict(request.media, request.prompt, regions=request.regions) for request in requests]

    def answer_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[BatchResult]:
        return [BatchResult(prediction=one) for one in self.predict_batch(requests)]

    def probe_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        return self.predict_batch(requests)

    def open(self, media: Any) -> ToyConversation:
        return ToyConversation(self, open_media(media))

    def track(
        self,
        source: Any,
        prompt: str | dict[str, str],
        *,
        num_keyframes: int | None = None,
        keyframes: str | None = None,
    ) -> Iterator[FrameResult]:
        prompt = {prompt: "dark"} if isinstance(prompt, str) else prompt
        self.asked += [(one, num_keyframes) if keyframes is None else (one, num_keyframes, keyframes) for one in prompt]
        names = [name for name in prompt.values() if "nothing" not in name]
        for index, frame in enumerate(open_media(source)):
            dark = frame.mean(-1) < 128
            found = [
                FrameObject(id=number, phrase=name, presence=0.9, score=0.8, mask=dark)
                for number, name in enumerate(names, start=1)
            ]
            yield FrameResult(index=index, time=index / 10, objects=tuple(found))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyPredictor:
    """Put the stand-in where commands look for a model."""
    predictor = ToyPredictor()
    monkeypatch.setitem(vars(sa2va), "load", lambda name, **options: predictor)
    return predictor
