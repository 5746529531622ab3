"""Ask far more about one drawn scene than a conversation holds: exchanges of one turn each, none needing another.

Flow: Scene -> draw_exchanges -> Turns, each with the objects its answer is about -> training/stages/packed.py.
Source: our own. Of a word and its opposite ("larger", "smaller") neither tells anything about the answer without the
    rest; learnt together from nothing they cancel out, so `hard=False` leaves the second of each pair to later.
Shapes: none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sa2va.types import Turn
from sa2va.world.language.expressions import expressions
from sa2va.world.language.noun_spans import find_names
from sa2va.world.language.questions import ask
from sa2va.world.scenes.scene import Scene
from sa2va.world.tasks.grounded_turn import GroundedTurn
from sa2va.world.tasks.referring import write_request

REQUESTS = {  # kind -> share among requests for masks: what composes has more than half
    "relation": 0.25,
    "negation": 0.22,
    "ordinal": 0.15,
    "group": 0.08,
    "attribute": 0.06,
    "place": 0.04,
    "superlative": 0.04,
    "absent": 0.16,
}
QUESTIONS = {  # kind -> share among questions with an answer in words
    "larger or smaller": 0.38,
    "more or fewer": 0.22,
    "count": 0.14,
    "texture": 0.12,
    "color": 0.03,
    "shape": 0.03,
    "size": 0.03,
    "existence": 0.03,
    "place": 0.02,
}
OPPOSITES = ("smaller", "fewer")  # the second of each pair of words
SIDES_LEFT_OUT = 0.5  # share of relations that name a side; "nearest to" is harder
EMPTY = 0.3  # share of the absent objects that are answered with an empty mask


@dataclass(frozen=True)
class Exchange:
    """One turn about a scene, to be asked alone."""

    turn: Turn
    kind: str
    targets: tuple[int, ...]  # positions in `scene.objects` that the answer is about, where it is about some
    is_request: bool  # for masks


def draw_exchanges(
    scene: Scene, rng: np.random.Generator, num_requests: int, num_questions: int, *, hard: bool = True
) -> list[Exchange]:
    """Draw exchanges about a scene in random order.

    Args:
        scene: a still picture.
        rng: where the choices come from.
        num_requests: at most so many for masks; fewer where the scene offers fewer.
        num_questions: at most so many in words.
        hard: ask with words that turn the answer round, too.

    Returns:
        Exchanges, no two with the same question about the same objects.
    """
    found = {}
    for kind, number in _count_kinds(rng, REQUESTS, num_requests).items():
        for expression in expressions(scene, rng, number, kinds=(kind,)):
            if kind == "relation" and "nearest" not in expression.words and rng.random() < SIDES_LEFT_OUT:
                continue
            turn = write_request(scene, expression, rng, shown=bool(expression.targets) or rng.random() >= EMPTY)
            found.setdefault(expression.text, Exchange(turn, kind, expression.targets, is_request=True))
    for kind, number in _count_kinds(rng, QUESTIONS, num_questions).items():
        for question in ask(scene, rng, number, kinds=(kind,)):
            if not hard and any(word in question.text for word in OPPOSITES):
                continue
            nouns = find_names(scene, question.text)
            turn = GroundedTurn(question=question.text, answer=question.answer, nouns=nouns)
            found.setdefault(question.text, Exchange(turn, kind, question.targets, is_request=False))
    drawn = list(found.values())
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _count_kinds(rng: np.random.Generator, shares: Mapping[str, float], number: int) -> dict[str, int]:
    """Draw how many of each kind there are; kinds with none are left out."""
    counts = rng.multinomial(number, list(shares.values()))
    return {kind: int(count) for kind, count in zip(shares, counts, strict=True) if count}
