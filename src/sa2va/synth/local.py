"""Caption objects and check expressions with a Sa2VA model on this machine.

Flow: View -> ModelCaptioner: questions with the object as region1 or outlined -> Part; View, Part -> GroundingChecker:
    a mask request -> IoU with the object's mask -> Verdict.
Shapes: K frames of a view, H W picture.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from sa2va.inference.requests import Options, Request
from sa2va.inference.results import Answers, BatchResult, Prediction
from sa2va.metrics.iou import iou
from sa2va.metrics.text import exact_match, normalize, plain_text
from sa2va.synth.captioner import CLIP, FIRST, LARGEST, OBJECT, SCENE, VIDEO, Part, Parts, Verdict
from sa2va.synth.views import View
from sa2va.tokens import SEGMENT_REQUEST, strip_expression

DESCRIBE = "Describe region1."
AGREE = "One text says: {}. Another says: {}. Can both be about the same object? Answer yes or no."
RELATE = "Where is region1, and how is it related to what is around it? Answer in one sentence."
NARRATE = "What does the outlined object do in the video? Answer in one sentence."
DISAGREE = "two looks disagree"
BATCH = 16  # questions that go through the model together
ABSENT, OTHER = "the checker finds no such object", "the checker finds another object"
ALSO, SILENT = "something fits where the object is painted over", "the checker cannot answer"
TEXT_ONLY = Options(max_objects=0)


def ask_all(model: Answers, requests: Iterable[Request], options: Options, batch: int = BATCH) -> list[BatchResult]:
    """Ask questions in batches; requests are made when their batch is, since the frames of all take gigabytes."""
    left, found = iter(requests), []
    while part := list(islice(left, batch)):
        found += model.answer_batch(part, options)
    return found


def read_text(result: BatchResult) -> str:
    """Return the text of an answer in one line without its closing stop; "" if there is none."""
    return strip_expression(plain_text(result.prediction.text)) if result.prediction is not None else ""


@dataclass(frozen=True)
class LocalCaptioner:
    """What captioners of a model on this machine share.

    Attributes:
        model: answers.
        name: identity of its weights.
    """

    model: Answers
    name: str

    def ask(self, requests: Iterable[Request]) -> list[str]:
        """Return the text of each answer; see `read_text`."""
        return [read_text(one) for one in ask_all(self.model, requests, TEXT_ONLY)]

    def merge(self, parts: Sequence[Parts]) -> list[str]:
        """Join the sentences of each object's parts, in the order of the levels."""
        return [" ".join(part.text for part in one.values() if part.text) for one in parts]


class ModelCaptioner(LocalCaptioner):
    """Captions of a Sa2VA model, one question per level."""

    def caption(self, level: str, views: Sequence[View], earlier: Sequence[Parts]) -> list[Part | None]:
        """Ask about the marked object; a part without a text is left out. See `Captioner`."""
        if level == OBJECT:
            return self._describe(views)
        if level == SCENE:
            texts = self.ask(Request(view.frame, RELATE, [view.mask]) for view in views)
        else:
            texts = self.ask(Request(np.stack(view.outlined_frames()), NARRATE) for view in views)
        look = CLIP if level == VIDEO else LARGEST
        return [Part(text=f"{text}.", expression=text, look=look) if text else None for text in texts]

    def _describe(self, views: Sequence[View]) -> list[Part | None]:
        """Describe the object in its frame and alone; the texts must agree."""
        marked = self.ask(Request(view.frame, DESCRIBE, [view.mask]) for view in views)
        alone = self.ask(Request(view.alone(), DESCRIBE, [view.mask]) for view in views)
        pairs = list(zip(marked, alone, strict=True))
        agreed = self.ask(Request(view.frame, AGREE.format(*pair)) for view, pair in zip(views, pairs, strict=True))
        return [
            Part(text=f"{first}.", expression=first, problem=compare_looks(first, second, said)) if first else None
            for (first, second), said in zip(pairs, agreed, strict=True)
        ]


def compare_looks(first: str, second: str, agreed: str = "") -> str:
    """Return why two descriptions of an object disagree; "" if they are the same, or a model said "yes" to that."""
    is_same = exact_match(first, second) or normalize(agreed).startswith("yes")
    return "" if is_same else f"{DISAGREE}: {second!r:.80}"


@dataclass(frozen=True)
class GroundingChecker:
    """Gives an expression back to a model, and compares the mask it finds with the object's.

    Attributes:
        model: segments.
        name: identity of its weights.
        threshold: least IoU, and least presence.
    """

    model: Answers
    name: str
    threshold: float = 0.5
    step: str = "check"

    def check(self, views: Sequence[View], parts: Sequence[Part]) -> list[Verdict]:
        """Ask for the mask of each expression on what it is about. See `Checker`."""
        truths = [_show(view, part.look)[1] for view, part in zip(views, parts, strict=True)]
        found = ask_for_masks(self.model, views, parts)
        return [self._judge(one, truth) for one, truth in zip(found, truths, strict=True)]

    def _judge(self, result: BatchResult, truth: np.ndarray) -> Verdict:
        if result.prediction is None:
            return Verdict(problem=f"{SILENT}: {result.error!s:.80}")
        if (presence := read_presence(result.prediction)) == 0:
            return Verdict(problem=ABSENT, presence=presence)
        masks = result.prediction.masks.any(0)  # (K, H, W), of all that the answer means
        shared = round(iou(np.asarray(masks), truth), 4)
        is_other = "" if shared >= self.threshold else OTHER
        return Verdict(problem=is_other if presence >= self.threshold else ABSENT, iou=shared, presence=presence)


@dataclass(frozen=True)
class ErasureChecker:
    """Paints the object over, and rejects an expression for which the model still finds something.

    Attributes:
        model: segments.
        name: identity of its weights.
        threshold: presence from which something is found.
    """

    model: Answers
    name: str
    threshold: float = 0.5
    step: str = "erase"

    def check(self, views: Sequence[View], parts: Sequence[Part]) -> list[Verdict]:
        """Ask for the mask of each expression where the object is painted over. See `Checker`."""
        found = ask_for_masks(self.model, (view.erased() for view in views), parts)
        return [self._judge(one) for one in found]

    def _judge(self, result: BatchResult) -> Verdict:
        if result.prediction is None:
            return Verdict(problem=f"{SILENT}: {result.error!s:.80}")
        is_found = read_presence(result.prediction) >= self.threshold and result.prediction.masks.any()
        return Verdict(problem=ALSO if is_found else "")


def ask_for_masks(model: Answers, views: Iterable[View], parts: Sequence[Part]) -> list[BatchResult]:
    """Ask for the mask of each expression on what it is about."""
    requests = (
        Request(_show(view, part.look)[0], SEGMENT_REQUEST.format(part.request))
        for view, part in zip(views, parts, strict=True)
    )
    return ask_all(model, requests, Options())


def read_presence(prediction: Prediction) -> float:
    """Return the highest presence of the objects of an answer, 0..1; 0 without any."""
    return round(max((float(one.presence) for one in prediction.objects), default=0.0), 4)


def _show(view: View, look: str) -> tuple[Any, np.ndarray]:
    """Return the picture or clip that an expression is about, and the object's masks on it, bool (K, H, W)."""
    if look == CLIP:
        return view.frames, view.masks
    if look == FIRST:
        return view.frames[0], view.masks[:1]
    return view.frame, view.mask[None]
