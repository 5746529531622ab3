"""Translate what lmms-eval asks into requests: messages to media and prompt, generation arguments to options.

Flow: messages, gen_kwargs of lmms-eval -> to_request, to_options -> Predictor; its text -> speak -> lmms-eval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sa2va.inference.requests import Options, Request
from sa2va.tokens import ADDED_TOKENS


def to_request(messages: Sequence[Mapping[str, Any]], *, as_clip: bool = False) -> Request:
    """Build the request of one question; its media come first, as in training.

    Args:
        messages: of roles system and user, each with parts of type text, image or video.
        as_clip: several pictures are the frames of one clip.

    Raises:
        ValueError: an earlier answer, sound, no media, or a clip beside other media.
    """
    roles = [message["role"] for message in messages]
    if set(roles) - {"system", "user"}:
        raise ValueError(f"messages of {', '.join(roles)}: expected one question, without earlier answers")
    parts = [part for message in messages for part in message["content"]]
    kinds = {kind: [part for part in parts if part["type"] == kind] for kind in ("text", "image", "video")}
    if sum(map(len, kinds.values())) < len(parts):
        raise ValueError(f"parts {', '.join(part['type'] for part in parts)}: expected text, images or one video")
    prompt = "\n".join(part["text"] for part in kinds["text"] if part["text"])
    images, videos = ([part["url"] for part in kinds[kind]] for kind in ("image", "video"))
    if len(videos) + bool(images) != 1:
        raise ValueError(f"{len(images)} images and {len(videos)} videos: expected images, or one video")
    if videos:
        return Request(media=videos[0], prompt=prompt)
    if as_clip:
        return Request(media=np.stack([np.asarray(image) for image in images]), prompt=prompt)
    return Request(media=images[0], prompt=prompt) if len(images) == 1 else Request(images=images, prompt=prompt)


def to_options(arguments: Mapping[str, Any], seed: int = 0) -> Options:
    """Read the generation arguments of a task: text only, greedy unless it samples.

    Args:
        arguments: `until`, `max_new_tokens`, `temperature`, `top_p`, `do_sample`; others do not apply.
        seed: of sampling.
    """
    temperature = arguments.get("temperature")
    samples = arguments.get("do_sample", bool(temperature))
    until = arguments.get("until") or ()
    given = {name: arguments[name] for name in ("max_new_tokens", "top_p") if arguments.get(name) is not None}
    return Options(
        **given,
        temperature=float(1.0 if temperature is None else temperature) if samples else 0.0,
        stop=(until,) if isinstance(until, str) else tuple(one for one in until if one),
        seed=seed,
        max_objects=0,
    )


def speak(text: str) -> str:
    """Remove the mask, phrase and region tokens of an answer."""
    for token in ADDED_TOKENS:
        text = text.replace(token, "")
    return text.strip()
