"""Describe an object of the drawn world in words, and parse such descriptions from a text.

Flow: objects of scene.py -> describe -> captions and region descriptions; a model's text -> parse_descriptions
    -> attribute F1.
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
    """Write size, texture (unless plain), color and shape: "a small striped red circle"."""
    words = [obj.size, *([] if obj.texture == "plain" else [obj.texture]), obj.color, obj.shape]
    return with_article(" ".join(words))


def parse_descriptions(text: str) -> list[dict[str, str | None]]:
    """Parse all descriptions in a text, in order; the inverse of `describe`.

    Returns:
        For each, "size", "texture", "color" and "shape". Missing attributes are None, a missing texture is "plain".
    """
    found = []
    for match in _PATTERN.finditer(text):
        words = {name: word.lower() if word else None for name, word in match.groupdict().items()}
        found.append({**words, "texture": words["texture"] or "plain"})
    return found
