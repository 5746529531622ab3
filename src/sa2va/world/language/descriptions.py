"""Describe one object of the drawn world in words, and find such descriptions in a text.

Flow: scene.py objects -> describe -> captions and region descriptions; a model's text -> parse_descriptions ->
    attribute F1.
"""

import re

from sa2va.world.language.grammar import with_article
from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES, WorldObject

_PATTERN = re.compile(
    rf"\b(?:(?P<size>{'|'.join(SIZES)}) )?(?:(?P<texture>{'|'.join(TEXTURES)}) )?"
    rf"(?:(?P<color>{'|'.join(COLORS)}) )?(?P<shape>{'|'.join(SHAPES)})\b",
    re.IGNORECASE,
)


def describe(obj: WorldObject) -> str:
    """Say size, texture (unless plain), colour and shape: "a small striped red circle"."""
    words = [obj.size, *([] if obj.texture == "plain" else [obj.texture]), obj.color, obj.shape]
    return with_article(" ".join(words))


def parse_descriptions(text: str) -> list[dict[str, str | None]]:
    """Find every description in a text, in order; the inverse of `describe`.

    Returns:
        For each one "size", "texture", "color", "shape"; what is not said is None, but an unsaid texture is plain.
    """
    found = []
    for match in _PATTERN.finditer(text):
        words = {name: word.lower() if word else None for name, word in match.groupdict().items()}
        found.append({**words, "texture": words["texture"] or "plain"})
    return found
