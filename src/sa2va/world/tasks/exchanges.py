"""Generate many independent question-answer pairs about one drawn picture or clip, each of one turn.

Flow: Scene -> draw_exchanges -> Exchanges, each with the objects its answer is about -> world/training/packed.py.
Source: our own. A word and its opposite ("larger", "smaller") carry no information about the answer without the rest
    of the question. Their gradients cancel if a model trains on both from scratch, so `hard=False` leaves one out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sa2va.data import prompts
from sa2va.types import Span, Turn
from sa2va.world.language.expressions import expressions
from sa2va.world.language.noun_spans import find_noun_spans
from sa2va.world.language.questions import ask
from sa2va.world.scenes.motion import STILL
from sa2va.world.scenes.scene import Scene
from sa2va.world.tasks.catalog import say_motion, write_caption
from sa2va.world.tasks.grounded_turn import GroundedTurn
from sa2va.world.tasks.referring import write_request

REQUESTS = {  # kind -> share of mask requests; compositional kinds have more than half
    "relation": 0.25,
    "negation": 0.22,
    "ordinal": 0.15,
    "group": 0.08,
    "attribute": 0.06,
    "place": 0.04,
    "superlative": 0.04,
    "absent": 0.16,
}
QUESTIONS = {  # kind -> share of questions with a text answer
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
CLIP_REQUESTS = {
    "motion": 0.55,
    "group": 0.10,
    "attribute": 0.06,
    "place": 0.05,
    "relation": 0.04,
    "superlative": 0.02,
    "negation": 0.02,
    "absent": 0.16,
}
CLIP_QUESTIONS = {
    "motion": 0.55,  # of which many are left out, see STILL_KEPT
    "who moves": 0.18,
    "any motion": 0.08,
    "count moving": 0.09,
    "count": 0.03,
    "color": 0.02,
    "shape": 0.02,
    "existence": 0.03,
}
OPPOSITES = ("smaller", "fewer")  # the second word of each pair of opposites
SIDES_LEFT_OUT = 0.5  # share of relations other than "nearest to" that are dropped, since they are easier
EMPTY = 0.3  # share of absent objects answered with an empty mask
# Two thirds of the objects of clips stay still. Asked about all alike, a model learned to say so of every object.
STILL_KEPT = 0.3  # share of questions about the motion of objects that stay still


@dataclass(frozen=True)
class Exchange:
    """One independent turn about a scene."""

    turn: Turn
    kind: str
    targets: tuple[int, ...]  # indices into `scene.objects` that the answer is about, if any
    is_request: bool  # asks for masks
    about: tuple[Span, ...] = ()  # parts of the answer with their objects


def draw_exchanges(
    scene: Scene,
    rng: np.random.Generator,
    num_requests: int,
    num_questions: int,
    *,
    hard: bool = True,
    moving: bool = False,
) -> list[Exchange]:
    """Generate exchanges about a scene in random order.

    Args:
        scene: The scene.
        rng: Random generator.
        num_requests: Maximum number of mask requests; fewer if the scene allows fewer.
        num_questions: Maximum number of questions with a text answer.
        hard: Include the words of OPPOSITES.
        moving: The scene is shown as a clip; most exchanges are about motion, and one asks for a caption.

    Returns:
        Exchanges with distinct questions.
    """
    found: dict[str, Exchange] = {}
    if moving:
        caption = _caption(scene, rng)
        found[caption.turn.question] = caption
    for kind, number in _count_kinds(rng, CLIP_REQUESTS if moving else REQUESTS, num_requests).items():
        for expression in expressions(scene, rng, number, kinds=(kind,), moving=moving):
            if kind == "relation" and "nearest" not in expression.words and rng.random() < SIDES_LEFT_OUT:
                continue
            turn = write_request(scene, expression, rng, shown=bool(expression.targets) or rng.random() >= EMPTY)
            found.setdefault(expression.text, Exchange(turn, kind, expression.targets, is_request=True))
    for kind, number in _count_kinds(rng, CLIP_QUESTIONS if moving else QUESTIONS, num_questions).items():
        for question in ask(scene, rng, number, kinds=(kind,), moving=moving):
            if not hard and any(word in question.text for word in OPPOSITES):
                continue
            if kind == "motion" and _is_idle(scene, question.targets, found, rng):
                continue
            nouns = find_noun_spans(scene, question.text)
            turn = GroundedTurn(question=question.text, answer=question.answer, nouns=nouns)
            # The whole answer to a question about motion depends on its object.
            named = moving and question.targets
            about = (Span(start=0, end=len(turn.answer), objects=question.targets),) if named else ()
            found.setdefault(question.text, Exchange(turn, kind, question.targets, is_request=False, about=about))
    drawn = list(found.values())
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _is_idle(scene: Scene, targets: tuple[int, ...], found: Mapping[str, Exchange], rng: np.random.Generator) -> bool:
    """Tell whether a question about the motion of an object is left out: asked before, or of one that stays still."""
    if any(one.kind == "motion" and not one.is_request and one.targets == targets for one in found.values()):
        return True
    return scene.objects[targets[0]].motion == STILL and rng.random() >= STILL_KEPT


def _caption(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Ask for the caption of a clip; each clause of the answer is about its object."""
    text, phrases = write_caption(scene, moving=True)
    about = tuple(replace(one, end=one.end + len(say_motion(scene.objects[one.objects[0]]))) for one in phrases)
    turn = Turn(question=prompts.pick(rng, prompts.VIDEO_CAPTION), answer=text)
    return Exchange(turn, "caption", (), is_request=False, about=about)


def _count_kinds(rng: np.random.Generator, shares: Mapping[str, float], number: int) -> dict[str, int]:
    """Sample the number of each kind; kinds with none are left out."""
    counts = rng.multinomial(number, list(shares.values()))
    return {kind: int(count) for kind, count in zip(shares, counts, strict=True) if count}
