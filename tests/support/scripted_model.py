"""Stand in for a model: answer each request with masks that a test computes from the request and its frames."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from support.fake_answers import fake

from sa2va.inference.requests import Options, Request
from sa2va.inference.results import Prediction
from sa2va.media.source import open_media
from sa2va.types import Frames

Masks = Callable[[Request, Frames], np.ndarray]  # -> bool (N, T, H, W)


class ScriptedModel:
    """A model whose answers are given; it keeps the prompts that it was asked."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.prompts: list[str] = []

    @classmethod
    def by_prompt(cls, replies: dict[str, list[np.ndarray]]) -> "ScriptedModel":
        """Answer a prompt about a picture with masks (H, W) each."""

        def masks(request: Request, frames: Frames) -> np.ndarray:
            found = replies[request.prompt]
            return np.array(found, bool).reshape(len(found), *frames.shape[:3])

        return cls(masks)

    def predict_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        self.prompts += [request.prompt for request in requests]
        found = [self._masks(one, np.stack(list(open_media(one.media)))) for one in requests]
        return [fake("It is " + "[SEG]" * len(masks) + ".", masks) for masks in found]

    def probe_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        raise NotImplementedError

    def track(self, source: Any) -> Any:
        raise NotImplementedError
