"""Check requests and options built from what lmms-eval passes."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.evaluation.lmms.messages import speak, to_options, to_request
from sa2va.inference.requests import DEFAULT_NEW_TOKENS, Options

PICTURE = Image.fromarray(np.zeros((4, 6, 3), np.uint8))


def message(*parts: Any, role: str = "user") -> dict[str, Any]:
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else part if isinstance(part, dict) else
        {"type": "image", "url": part}
        for part in parts
    ]  # fmt: skip
    return {"role": role, "content": content}


def test_one_picture_several_and_a_video() -> None:
    one = to_request([message("Be brief.", role="system"), message(PICTURE, "What?")])
    assert one.media is PICTURE and one.prompt == "Be brief.\nWhat?" and one.images is None
    several = to_request([message(PICTURE, PICTURE, "Which?")])
    assert several.images == [PICTURE, PICTURE] and several.media is None
    assert to_request([message(PICTURE, PICTURE, "Which?")], as_clip=True).media.shape == (2, 4, 6, 3)
    assert to_request([message({"type": "video", "url": "clip.mp4"}, "When?")]).media == "clip.mp4"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([message("What?")], "0 images and 0 videos"),
        ([message(PICTURE, {"type": "video", "url": "a.mp4"}, "?")], "1 images and 1 videos"),
        ([message({"type": "video", "url": "a"}, {"type": "video", "url": "b"}, "?")], "0 images and 2 videos"),
        ([message(PICTURE, {"type": "audio", "url": "a.wav"}, "?")], "expected text, images or one video"),
        ([message(PICTURE, "?"), message("So.", role="assistant"), message("?")], "without earlier answers"),
    ],
)
def test_what_the_model_cannot_be_asked(messages: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_request(messages)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Options(max_objects=0)),
        ({"until": ["\n\n", ""], "max_new_tokens": 16, "temperature": 0.0, "top_p": 1.0, "num_beams": 1,
          "do_sample": False}, Options(stop=("\n\n",), max_new_tokens=16, max_objects=0)),
        ({"until": "ASSISTANT:", "image_aspect_ratio": "original"}, Options(stop=("ASSISTANT:",), max_objects=0)),
        ({"until": None, "temperature": 0.7, "top_p": 0.9}, Options(temperature=0.7, top_p=0.9, max_objects=0)),
        ({"do_sample": False, "temperature": 0.7}, Options(max_objects=0)),
        ({"do_sample": True}, Options(temperature=1.0, max_objects=0)),
        ({"do_sample": True, "temperature": 0.0}, Options(max_objects=0)),
        ({"max_new_tokens": None, "top_p": None}, Options(max_objects=0)),
    ],
)  # fmt: skip
def test_generation_arguments(given: dict[str, Any], wanted: Options) -> None:
    assert to_options(given) == wanted
    assert to_options({}).max_new_tokens == DEFAULT_NEW_TOKENS


def test_special_tokens_are_not_spoken() -> None:
    assert speak("<p>A</p>[SEG].\n\nB ") == "A.\n\nB"
