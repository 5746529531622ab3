"""Check that every expression denotes its targets, by a second reading of English that shares no code with the first.

Flow: scenes of many seeds -> expressions -> `read_independently` (regular expressions and plain geometry).
"""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.world.language.expressions import CLIP_KINDS, KINDS, Expression, denotes, expressions, vocabulary
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import COLORS, HELD_OUT_PAIRS, SHAPES, SIZES, TEXTURES, Scene

ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]
NOUN = "|".join([*SHAPES, "object"])
PHRASE = re.compile(
    rf"(?P<det>the|both|all)(?: (?P<number>two|three|four|five|six|seven|eight))?"
    rf"(?: (?P<selector>largest|smallest|leftmost|rightmost|topmost|lowest|{'|'.join(ORDINALS)}))?"
    rf"(?P<looks>(?: (?:{'|'.join([*SIZES, *TEXTURES, *COLORS])}))*) (?P<noun>(?:{NOUN})(?:e?s)?)(?: (?P<rest>.*))?"
)
LENGTHS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}


def fits(obj, looks: str, noun: str) -> bool:
    said = {obj.size, obj.texture, obj.color}
    singular = re.fullmatch(rf"({NOUN})(?:e?s)?", noun).group(1)
    return set(looks.split()) <= said and singular in ("object", obj.shape)


def says_rest(scene: Scene, obj, rest: str, pool: list) -> bool:
    if found := re.fullmatch(r"that (?:is|are) not (?:an? )?(\w+)", rest):
        word = found[1]
        return not any(
            word in (look, f"{look}s", f"{look}es") for look in (obj.size, obj.texture, obj.color, obj.shape)
        )
    if rest.startswith("that "):
        kind = rest[5:].removesuffix(" another object")
        return kind in (obj.motion.kind, plural_of(obj.motion.kind))
    if found := re.fullmatch(r"(left of|right of|above|below|nearest to) (.*)", rest):
        (anchor,) = read_independently(scene, found[2])
        other = scene.objects[anchor]
        if found[1] == "nearest to":
            rivals = [rival for rival in pool if rival is not other]
            return obj is min(rivals, key=lambda o: np.hypot(o.x - other.x, o.y - other.y))
        return {"left of": obj.x < other.x, "right of": obj.x > other.x, "above": obj.y < other.y}.get(
            found[1], obj.y > other.y
        )
    place = rest.removesuffix(" at the start")
    if obj.motion.kind == "enters":
        return False
    if place == "in the middle":
        return max(abs(obj.x - 0.5), abs(obj.y - 0.5)) < 0.18
    sides = {"left": obj.x, "right": 1 - obj.x, "top": obj.y, "bottom": 1 - obj.y}
    return all(sides[word] < 0.43 for word in place.split() if word in sides)


def plural_of(kind: str) -> str:
    verb, *rest = kind.split()
    return " ".join([verb.removesuffix("es") if verb == "passes" else verb.removesuffix("s"), *rest])


def read_independently(scene: Scene, text: str) -> set[int]:
    found = PHRASE.fullmatch(text)
    assert found, text
    pool = [obj for obj in scene.objects if fits(obj, found["looks"], found["noun"])]
    selector, rest = found["selector"], found["rest"]
    if selector in ORDINALS:
        side = rest.removeprefix("from the ")
        axis = {"left": lambda o: o.x, "right": lambda o: -o.x, "top": lambda o: o.y, "bottom": lambda o: -o.y}[side]
        pool = sorted(pool, key=axis)[ORDINALS.index(selector) :][:1]
    elif selector:
        measure = {
            "largest": lambda o: -o.radius,
            "smallest": lambda o: o.radius,
            "leftmost": lambda o: o.x,
            "rightmost": lambda o: -o.x,
            "topmost": lambda o: o.y,
            "lowest": lambda o: -o.y,
        }[selector]
        pool = [min(pool, key=measure)]
    elif rest:
        pool = [obj for obj in pool if says_rest(scene, obj, rest, pool)]
    if found["number"]:
        assert len(pool) == LENGTHS[found["number"]], text
    if found["det"] == "both":
        assert len(pool) == 2, text
    return {next(i for i, o in enumerate(scene.objects) if o is obj) for obj in pool}


def write(seed: int, index: int, moving: bool, n: int = 6, **options) -> tuple[Scene, list[Expression]]:
    scene = make_scene(seed, "val", index, moving=moving)
    return scene, expressions(scene, np.random.default_rng([seed, index]), n, moving=moving, **options)


@pytest.fixture(scope="module", params=[False, True], ids=["picture", "clip"])
def world(request: pytest.FixtureRequest) -> tuple[bool, list[tuple[Scene, list[Expression]]]]:
    return request.param, [write(3, index, request.param) for index in range(150)]


def test_a_second_reader_agrees(world) -> None:
    for scene, found in world[1]:
        for expression in found:
            assert read_independently(scene, expression.text) == set(expression.targets), expression


def test_targets_come_left_to_right_and_texts_differ(world) -> None:
    for scene, found in world[1]:
        assert len({expression.text for expression in found}) == len(found)
        for expression in found:
            places = [scene.objects[target].x for target in expression.targets]
            assert places == sorted(places)
            assert (expression.kind == "absent") == (not expression.targets)
            assert (expression.kind == "group") == (len(expression.targets) > 1)


def test_every_word_is_in_the_vocabulary(world) -> None:
    words = set(vocabulary())
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    for _, found in world[1]:
        for expression in found:
            assert expression.text == " ".join(expression.words)
            assert set(expression.words) <= words


def test_shares(world) -> None:
    moving, scenes = world
    counts = Counter(expression.kind for _, found in scenes for expression in found)
    total = counts.total()
    assert total >= 0.97 * 6 * len(scenes)
    assert counts["absent"] / total == pytest.approx(0.12, abs=0.03)
    if moving:
        assert counts["motion"] / total >= 0.42
        needed = [e.needs_motion for _, found in scenes for e in found if e.kind == "motion"]
        assert np.mean(needed) >= 0.5
    else:
        hard = sum(counts[kind] for kind in ("relation", "ordinal", "superlative", "negation"))
        assert hard / total >= 0.30
        assert counts["group"] / total == pytest.approx(0.10, abs=0.03)


def test_most_referred_objects_have_a_distractor(world) -> None:
    alike = [
        any(o is not scene.objects[t] and {o.color, o.shape} & {*scene.objects[t].pair} for o in scene.objects)
        for scene, found in world[1]
        for expression in found
        for t in expression.targets
    ]
    assert np.mean(alike) >= 0.70


def test_absent_objects_never_teach_that_held_out_pairs_are_not_there(world) -> None:
    for _, found in world[1]:
        for expression in found:
            if expression.kind == "absent":
                words = expression.words
                assert not any(pair in HELD_OUT_PAIRS for pair in pairwise(words)), expression


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), index=st.integers(0, 2**20), moving=st.booleans())
def test_a_listener_never_brings_an_object_back(seed: int, index: int, moving: bool) -> None:
    scene, found = write(seed, index, moving)
    everything = frozenset(range(len(scene.objects)))
    for expression in found:
        heard = [denotes(scene, expression.words[:n]) for n in range(len(expression.words) + 1)]
        assert heard[0] == everything
        assert all(later <= earlier for earlier, later in pairwise(heard)), (expression, heard)
        assert heard[-1] == frozenset(expression.targets)


@pytest.mark.parametrize(
    "words", ["the red banana", "the circle underneath", "circle of red", "the red circle that sings"]
)
def test_denotes_refuses_words_it_does_not_know(words: str) -> None:
    with pytest.raises(ValueError, match="not fit the grammar"):
        denotes(make_scene(0, "val", 0), words.split())


@pytest.mark.parametrize(("kind", "moving"), [(k, False) for k in KINDS] + [(k, True) for k in CLIP_KINDS])
def test_one_kind_alone(kind: str, moving: bool) -> None:
    found = [e for index in range(40) for e in write(1, index, moving, 1, kinds=(kind,))[1]]
    assert len(found) >= 8
    assert {expression.kind for expression in found} == {kind}


@pytest.mark.parametrize("moving", [False, True], ids=["picture", "clip"])
def test_absent_objects_are_referred_to_in_several_ways(moving: bool) -> None:
    forms = Counter(e.form for index in range(80) for e in write(4, index, moving, 2, kinds=("absent",))[1])
    assert set(forms) == (
        {"attribute", "motion", "place"} if moving else {"attribute", "relation", "place", "negation"}
    )
    assert max(forms.values()) < 0.75 * forms.total()


def test_only_limits_the_targets() -> None:
    for index in range(30):
        _, found = write(2, index, False, 4, only=(1,), kinds=("attribute", "relation", "place", "superlative"))
        assert all(expression.targets == (1,) for expression in found)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected some of"):
        write(0, 0, False, 1, kinds=("riddle",))
