"""Check the answers of the drawn world against answers found another way.

Flow: scenes -> ask -> each kind of question is read with a regular expression and answered from the objects.
"""

import re
from collections import Counter

import numpy as np
import pytest

from sa2va.world.language.grammar import NUMBERS
from sa2va.world.language.questions import CLIP_QUESTIONS, QUESTIONS, Question, ask, find_cell
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import HELD_OUT_PAIRS, Scene, WorldObject


def meant(scene: Scene, words: str) -> list[WorldObject]:
    """Find the objects that a bare noun phrase fits, singular or plural."""
    found = []
    for obj in scene.objects:
        looks = {obj.size, obj.texture, obj.color, obj.shape, f"{obj.shape}s", f"{obj.shape}es", "object", "objects"}
        found += [obj] if set(words.split()) <= looks else []
    return found


def answer(scene: Scene, question: Question) -> str:
    text, kind = question.text.rstrip("?"), question.kind
    if kind == "count":
        return NUMBERS[len(meant(scene, text.removeprefix("How many ").removesuffix(" are there")))]
    if kind == "existence":
        return "yes" if meant(scene, re.sub("Is there an? ", "", text)) else "no"
    if kind == "any motion":
        verb = text.removeprefix("Is there an object that ")
        return "yes" if any(obj.motion.kind == verb for obj in scene.objects) else "no"
    if kind == "who moves":
        verb = text.removeprefix("Which object ").removesuffix(" another object")
        (obj,) = [obj for obj in scene.objects if obj.motion.kind == verb]
        texture = "" if obj.texture == "plain" else f" {obj.texture}"
        return f"a {obj.size}{texture} {obj.color} {obj.shape}"
    if kind == "count moving":
        still = sum(obj.motion.kind == "stays still" for obj in scene.objects)
        return NUMBERS[still if "still" in text else len(scene.objects) - still]
    if kind == "more or fewer":
        word, first, second = re.fullmatch(r"Are there (more|fewer) (.+) than (.+)", text).groups()
        sign = len(meant(scene, first)) - len(meant(scene, second))
        return "yes" if (sign > 0) == (word == "more") else "no"
    if kind == "larger or smaller":
        word, *names = re.fullmatch(r"Which is (larger|smaller), the (.+) or the (.+)", text).groups()
        both = [(meant(scene, name), name) for name in names]
        assert all(len(objects) == 1 for objects, _ in both)
        pick = max if word == "larger" else min
        return f"the {pick(both, key=lambda item: item[0][0].radius)[1]}"
    name = re.sub(r"^What (color|shape|size) is the |^What (texture )?does the |^Where is the ", "", text)
    (obj,) = meant(scene, re.sub(" (have|do)$", "", name))
    if kind == "place":
        row = "top" if obj.y < 1 / 3 else "bottom" if obj.y > 2 / 3 else ""
        column = "left" if obj.x < 1 / 3 else "right" if obj.x > 2 / 3 else ""
        return f"{row} {column}".strip() or "center"
    if kind == "motion":
        return f"it {obj.motion.kind}" + (" another object" if obj.motion.kind == "passes behind" else "")
    return getattr(obj, kind)


@pytest.mark.parametrize("moving", [False, True], ids=["picture", "clip"])
def test_answers_are_right(moving: bool) -> None:
    kinds: Counter[str] = Counter()
    yes: Counter[str] = Counter()
    for index in range(200):
        scene = make_scene(5, "val", index, moving=moving)
        for question in ask(scene, np.random.default_rng(index), 5, moving=moving):
            assert question.answer == answer(scene, question), question
            kinds[question.kind] += 1
            yes[question.kind] += question.answer == "yes"
            if question.kind == "existence" and question.answer == "no":
                assert tuple(question.text.rstrip("?").split()[-2:]) not in HELD_OUT_PAIRS
    assert set(kinds) == set(CLIP_QUESTIONS if moving else QUESTIONS)
    assert yes["existence"] / kinds["existence"] == pytest.approx(0.5, abs=0.15)


def test_no_question_comes_twice() -> None:
    for index in range(40):
        texts = [q.text for q in ask(make_scene(6, "val", index), np.random.default_rng(index), 6)]
        assert len(set(texts)) == len(texts) >= 3


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [(0.1, 0.1, "top left"), (0.5, 0.5, "center"), (0.5, 0.9, "bottom"), (0.1, 0.5, "left"), (0.35, 0.5, None)],
)
def test_find_cell(x: float, y: float, cell: str | None) -> None:
    obj = WorldObject(shape="star", color="red", size="small", texture="plain", x=x, y=y, radius=0.07)
    assert find_cell(obj) == cell
