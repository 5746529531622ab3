"""Define the only currency between floors: what a dataset yields, what a model returns.

Flow: data/* -> Sample -> model/processor.py -> Batch -> model/sa2va.py -> Losses;
    model/predictor.py -> Prediction -> apps.
Shapes: M distinct objects of a sample, N objects of an answer, T frames, H W picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # (H, W, 3), RGB
Frames = NDArray[np.uint8]  # (T, H, W, 3), RGB; T = 1 is an image
Masks = NDArray[np.bool_]  # (N, T, H, W)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of an answer that is grounded in masks.

    `answer[start:end]` is the phrase. An empty phrase (start == end) means that the masks stand at that
    place without a phrase, as in the answer "It is ." of referring segmentation. The processor writes
    one mask token per object; a dataset never does.
    """

    start: int
    end: int
    objects: tuple[int, ...]  # rows of Sample.masks, one mask token each, in this order


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question and its answer.

    `supervised=False` leaves the answer out of the language loss; its masks still train presence. This is
    how an absent object is shown to the presence head: its mask is empty in every frame.
    """

    question: str
    answer: str
    spans: tuple[Span, ...] = ()
    regions: tuple[NDArray[np.bool_], ...] = ()  # each (H, W), on the first frame: "region1", "region2", ...
    supervised: bool = True
    heard: tuple[Span, ...] = ()  # words of the question, each with the objects that it and those before may mean
    named: tuple[Span, ...] = ()  # words of the question that name things, each with the objects the name fits


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture or clip with a conversation about it. Knows nothing of tokenizers."""

    frames: Frames
    turns: tuple[Turn, ...]
    masks: Masks = field(default_factory=lambda: np.zeros((0, 1, 1, 1), bool))  # (M, T, H, W) visible pixels
    task: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)  # what an evaluation needs besides; never read in training

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames: expected uint8 (T, H, W, 3), got {self.frames.dtype} {self.frames.shape}")
        for turn in self.turns:
            asked = (*turn.heard, *turn.named)
            texts = [("answer", turn.answer)] * len(turn.spans) + [("question", turn.question)] * len(asked)
            for span, (name, text) in zip((*turn.spans, *asked), texts, strict=True):
                if not 0 <= span.start <= span.end <= len(text):
                    raise ValueError(f"span {span.start}:{span.end} lies outside the {name} of {len(text)} characters")
                if any(not 0 <= index < len(self.masks) for index in span.objects):
                    raise ValueError(f"span refers to objects {span.objects}, the sample has {len(self.masks)} masks")
