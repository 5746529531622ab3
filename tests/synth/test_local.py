"""Check captioner and checker of a local model: what it is asked, and what its masks decide."""

from typing import Any

import numpy as np
import pytest
from support.toy_predictor import ToyPredictor

from sa2va.inference.requests import Options, Request
from sa2va.inference.results import BatchResult
from sa2va.synth.captioner import CLIP, FIRST, LARGEST, OBJECT, SCENE, VIDEO, Part, Verdict
from sa2va.synth.local import (
    ABSENT,
    ALSO,
    DISAGREE,
    OTHER,
    ErasureChecker,
    GroundingChecker,
    ModelCaptioner,
    compare_looks,
)
from sa2va.synth.views import View

BOX, OTHER_BOX = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
BOX[5:11, 8:16], OTHER_BOX[14:18, 20:28] = True, True


def view(mask: np.ndarray, dark: np.ndarray = BOX) -> View:
    """Return an object of a clip of three frames; what is dark is found by the toy model."""
    frame = np.where(dark[..., None], np.uint8(20), np.uint8(255)).repeat(3, -1)
    return View(clip="a", object=0, frames=np.stack([frame] * 3), masks=np.stack([mask] * 3), frame=frame, mask=mask)


@pytest.mark.parametrize("look", [LARGEST, FIRST, CLIP])
def test_a_mask_of_the_object_is_accepted_and_others_are_not(look: str) -> None:
    model = ToyPredictor()
    checker = GroundingChecker(model, "toy")
    parts = [Part(text="", expression=text, look=look) for text in ("the box", "the box", "nothing")]
    found = checker.check([view(BOX), view(OTHER_BOX), view(BOX)], parts)
    assert [(one.problem, one.iou, one.presence) for one in found] == [
        ("", 1.0, 0.97), (OTHER, 0.0, 0.97), (ABSENT, None, 0.0)
    ]  # fmt: skip
    assert [prompt for prompt, _ in model.asked] == ["Please segment the box."] * 2 + ["Please segment nothing."]


def test_an_expression_that_fits_more_than_the_object_is_rejected() -> None:
    """Painted over, a dark box is gone; a second dark box is still found."""
    checker = ErasureChecker(ToyPredictor(), "toy")
    views = [view(BOX), view(BOX, BOX | OTHER_BOX)]
    for look in (LARGEST, FIRST, CLIP):
        found = checker.check(views, [Part(text="", expression="the box", look=look)] * 2)
        assert [one.problem for one in found] == ["", ALSO]
    assert Verdict(iou=0.9, presence=0.8).and_then(found[1]) == Verdict(problem=ALSO, iou=0.9, presence=0.8)


def test_a_threshold_above_the_presence_rejects() -> None:
    (found,) = GroundingChecker(ToyPredictor(), "toy", 0.98).check([view(BOX)], [Part(text="", expression="the box")])
    assert found.problem == ABSENT and found.iou == 1.0


def test_the_words_that_fit_the_picture_are_asked() -> None:
    model = ToyPredictor()
    GroundingChecker(model, "toy").check([view(BOX)], [Part(text="", expression="later", checked="now", look=FIRST)])
    assert model.asked == [("Please segment now.", None)]


class Echo:
    """A model that answers with the picture's darkness, its own question, or "no"."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def answer_batch(self, requests: Any, options: Options | None = None) -> list[BatchResult]:
        self.requests += requests
        found = ToyPredictor().answer_batch(requests, options)
        texts = [self._answer(request) for request in requests]
        return [
            BatchResult(prediction=replace_text(one, text)) if text else BatchResult(error=ValueError("too long"))
            for one, text in zip(found, texts, strict=True)
        ]

    def _answer(self, request: Request) -> str:
        if "yes or no" in request.prompt:
            return "No."
        if "video" in request.prompt:
            return ""
        return f"Level {np.asarray(request.media)[-1, -1, 0]} [SEG]."


def replace_text(result: BatchResult, text: str) -> Any:
    from dataclasses import replace

    return replace(result.unwrap(), text=text)


def test_the_object_is_marked_outlined_and_alone() -> None:
    model = Echo()
    captioner = ModelCaptioner(model, "echo")
    (one,) = captioner.caption(OBJECT, [view(BOX)], [{}])
    assert one == Part(text="Level 255.", expression="Level 255", problem=f"{DISAGREE}: 'Level 200'")
    assert [request.regions is None for request in model.requests] == [False, False, True]
    (scene,) = captioner.caption(SCENE, [view(BOX)], [{OBJECT: one}])
    assert scene is not None and scene.look == LARGEST
    assert captioner.caption(VIDEO, [view(BOX)], [{OBJECT: one}]) == [None]
    assert np.asarray(model.requests[-1].media).shape == (3, 20, 30, 3)
    assert captioner.merge([{OBJECT: one, SCENE: scene}]) == ["Level 255. Level 255."]


@pytest.mark.parametrize(
    ("first", "second", "agreed", "problem"),
    [
        ("A red car", "a red car.", "", ""),
        ("A red car", "a crimson car", "Yes.", ""),
        ("A red car", "a dog", "No.", f"{DISAGREE}: 'a dog'"),
    ],
)
def test_two_looks_agree_by_word_or_by_judgment(first: str, second: str, agreed: str, problem: str) -> None:
    assert compare_looks(first, second, agreed) == problem
