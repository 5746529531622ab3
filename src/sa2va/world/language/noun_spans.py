"""Find the noun spans of a question: "the circle left of the red star" has "circle" and "red star".

Flow: a question of expressions.py or questions.py + Scene -> find_noun_spans -> GroundedTurn.nouns.
    `denotes` interprets the whole expression; a noun span holds all objects that fit its own noun phrase.
"""

import re
from dataclasses import replace

from sa2va.types import Span
from sa2va.world.language.grammar import NOUNS, PLURALS, Attributes
from sa2va.world.scenes.scene import COLORS, SIZES, TEXTURES, Scene

_FIELDS = {word: name for name, words in (("size", SIZES), ("texture", TEXTURES), ("color", COLORS)) for word in words}


def find_noun_spans(scene: Scene, question: str) -> tuple[Span, ...]:
    """List the words of noun phrases in a question.

    Args:
        scene: Scene that the question is about.
        question: Any text.

    Returns:
        One span per word with the objects that fit the phrase up to it; words that fit all objects are left out.
    """
    spans, attributes = [], Attributes()
    for match in re.finditer(r"[a-z]+", question.lower()):
        word = match.group()
        noun = NOUNS.get(word) or PLURALS.get(word)
        if word in _FIELDS:
            attributes = replace(attributes, **{_FIELDS[word]: word})
        elif noun is not None and noun != "object":
            attributes = replace(attributes, shape=noun)
        elif noun is None:
            attributes = Attributes()
            continue
        fitting = tuple(i for i, thing in enumerate(scene.objects) if attributes.is_true(thing))
        if len(fitting) < len(scene.objects):
            spans.append(Span(start=match.start(), end=match.end(), objects=fitting))
        if noun is not None:
            attributes = Attributes()
    return tuple(spans)
