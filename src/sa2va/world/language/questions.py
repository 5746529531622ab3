"""Generate questions about a drawn scene with exactly one short correct answer.

Flow: Scene -> ask (image or clip) -> question, answer, kind -> turns of world/tasks/. The metric is exact match, so
    each kind has a fixed answer format.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sa2va.world.language.descriptions import describe
from sa2va.world.language.expressions import identify
from sa2va.world.language.grammar import NUMBERS, Attributes, Phrase, find_meaning, to_plural, with_article
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.relations import RATIO, RESIZING, keeps_place, moves_as
from sa2va.world.scenes.scene import COLORS, SHAPES, Scene, WorldObject
from sa2va.world.scenes.splits import UNSEEN_PAIRS, Pairs

_CELL_MARGIN = 0.04  # minimum distance from the lines of the 3 x 3 grid, fraction of the side
_TRAVELING = frozenset(MOTIONS) - {"stays still", "grows", "shrinks", "blinks"}
_DOES = {kind: f"it {kind}" for kind in MOTIONS} | {"passes behind": "it passes behind another object"}


@dataclass(frozen=True)
class Question:
    """One question with its only correct answer."""

    text: str
    answer: str
    kind: str
    heldout: bool = False  # about an object whose color-shape pair training never shows
    targets: tuple[int, ...] = ()  # index of the object that the answer is about, if any


def ask(
    scene: Scene,
    rng: np.random.Generator,
    n: int,
    *,
    moving: bool = False,
    kinds: Sequence[str] = (),
    withheld: Pairs = UNSEEN_PAIRS,
) -> list[Question]:
    """Generate distinct questions about one scene.

    Args:
        scene: The scene.
        rng: Random generator.
        n: Number of questions; fewer if the scene allows fewer.
        moving: The scene is shown as a clip.
        kinds: Kinds to use; empty = all.
        withheld: Pairs of color and shape never named by existence questions with the answer "no"; see
            splits.withheld_pairs.

    Returns:
        At most `n` questions.
    """
    makers = (CLIP_QUESTIONS if moving else QUESTIONS) | {"existence": partial(_exists, withheld=withheld)}
    found: dict[str, Question] = {}
    for _ in range(8 * n):
        if len(found) == n:
            break
        kind = str(rng.choice(list(kinds or makers)))
        made = makers[kind](scene, rng)
        if made is not None:
            text, answer, *target = made
            heldout = any(scene.objects[i].pair in UNSEEN_PAIRS for i in target)
            found.setdefault(text, Question(text, answer, kind, heldout, tuple(target)))
    return list(found.values())


Made = tuple[str, str] | tuple[str, str, int] | None


def _name(scene: Scene, rng: np.random.Generator, without: tuple[str, ...] = ()) -> tuple[int, str] | None:
    """Sample an object and a phrase that identifies it: "red circle"."""
    target = int(rng.integers(len(scene.objects)))
    attributes = identify(scene, target, rng, without)
    return None if attributes is None or attributes == Attributes() else (target, " ".join(attributes.to_words()))


def _count(scene: Scene, rng: np.random.Generator) -> Made:
    obj = scene.objects[int(rng.integers(len(scene.objects)))]
    choices = (
        Attributes(),
        Attributes(color=obj.color),
        Attributes(shape=obj.shape),
        Attributes(texture=obj.texture),
        Attributes(shape=str(rng.choice(SHAPES))),
        Attributes(color=str(rng.choice(list(COLORS)))),
    )
    attributes = choices[int(rng.choice(len(choices), p=(0.2, 0.26, 0.26, 0.14, 0.07, 0.07)))]
    members = find_meaning(scene, Phrase(attributes))
    return f"How many {' '.join(attributes.to_words(plural=True))} are there?", NUMBERS[len(members or ())]


def _ask_color(scene: Scene, rng: np.random.Generator) -> Made:
    named = _name(scene, rng, ("color",))
    return named and (f"What color is the {named[1]}?", scene.objects[named[0]].color, named[0])


def _ask_shape(scene: Scene, rng: np.random.Generator) -> Made:
    named = _name(scene, rng, ("shape",))
    return named and (f"What shape is the {named[1]}?", scene.objects[named[0]].shape, named[0])


def _ask_texture(scene: Scene, rng: np.random.Generator) -> Made:
    named = _name(scene, rng, ("texture",))
    return named and (f"What texture does the {named[1]} have?", scene.objects[named[0]].texture, named[0])


def _ask_size(scene: Scene, rng: np.random.Generator) -> Made:
    named = _name(scene, rng, ("size",))
    return named and (f"What size is the {named[1]}?", scene.objects[named[0]].size, named[0])


def _exists(scene: Scene, rng: np.random.Generator, withheld: Pairs = UNSEEN_PAIRS) -> Made:
    """Ask whether an object exists, with balanced answers; questions with the answer "no" name no withheld pair."""
    obj = scene.objects[int(rng.integers(len(scene.objects)))]
    if rng.random() < 0.5:
        return f"Is there {with_article(' '.join(obj.pair))}?", "yes", scene.objects.index(obj)
    pairs = {other.pair for other in scene.objects} | withheld
    near = [(a.color, b.shape) for a in scene.objects for b in scene.objects]  # each word fits some object
    near += [(obj.color, shape) for shape in SHAPES] + [(color, obj.shape) for color in COLORS]
    near = [pair for pair in near if pair not in pairs]
    return f"Is there {with_article(' '.join(near[int(rng.integers(len(near)))]))}?", "no"


def _compare_counts(scene: Scene, rng: np.random.Generator) -> Made:
    name, plural = ("shape", to_plural) if rng.random() < 0.5 else ("color", lambda color: f"{color} objects")
    counts = Counter(getattr(obj, name) for obj in scene.objects)
    if len(counts) < 2:
        return None
    first, second = (str(word) for word in rng.choice(sorted(counts), 2, replace=False))
    if counts[first] == counts[second]:
        return None
    word = "more" if rng.random() < 0.5 else "fewer"
    is_so = (counts[first] > counts[second]) == (word == "more")
    return f"Are there {word} {plural(first)} than {plural(second)}?", "yes" if is_so else "no"


def _compare_sizes(scene: Scene, rng: np.random.Generator) -> Made:
    first, second = _name(scene, rng), _name(scene, rng)
    if first is None or second is None or first[0] == second[0]:
        return None
    one, other = scene.objects[first[0]], scene.objects[second[0]]
    large, small = max(one.radius, other.radius), min(one.radius, other.radius)
    is_said = any(size in first[1] or size in second[1] for size in ("small", "medium", "large"))
    if is_said or large < RATIO * small:
        return None
    word = "larger" if rng.random() < 0.5 else "smaller"
    winner = first if (one.radius > other.radius) == (word == "larger") else second
    return f"Which is {word}, the {first[1]} or the {second[1]}?", f"the {winner[1]}", winner[0]


def find_cell(obj: WorldObject) -> str | None:
    """Name the cell of a 3 x 3 grid that an object is in: "top left", "left", "center"; None near a line."""
    if any(abs(place - line) < _CELL_MARGIN for place in (obj.x, obj.y) for line in (1 / 3, 2 / 3)):
        return None
    row, column = ("top", "", "bottom")[int(obj.y * 3)], ("left", "", "right")[int(obj.x * 3)]
    return f"{row} {column}".strip() or "center"


def _ask_place(scene: Scene, rng: np.random.Generator) -> Made:
    named = _name(scene, rng)
    if named is None or not keeps_place(scene.objects[named[0]]):
        return None
    cell = find_cell(scene.objects[named[0]])
    return None if cell is None else (f"Where is the {named[1]}?", cell, named[0])


def _ask_motion(scene: Scene, rng: np.random.Generator) -> Made:
    named = _name(scene, rng)
    return named and (f"What does the {named[1]} do?", _DOES[scene.objects[named[0]].motion.kind], named[0])


def _ask_who(scene: Scene, rng: np.random.Generator) -> Made:
    """Ask "Which object blinks?", for a kind of motion that exactly one object has."""
    fitting = {}
    for kind in MOTIONS[1:]:
        truths = [moves_as(obj, kind) for obj in scene.objects]
        if None not in truths and sum(map(bool, truths)) == 1:
            fitting[kind] = truths.index(True)
    if not fitting:
        return None
    kind = str(rng.choice(list(fitting)))
    return f"Which object {_DOES[kind][3:]}?", describe(scene.objects[fitting[kind]]), fitting[kind]


def _any_motion(scene: Scene, rng: np.random.Generator) -> Made:
    is_so = bool(rng.random() < 0.5)
    choices = []
    for kind in _EVENTS:
        truths = {moves_as(obj, kind) for obj in scene.objects}
        if True in truths if is_so else truths == {False}:
            choices.append(kind)
    if not choices:
        return None
    return f"Is there an object that {_DOES[str(rng.choice(choices))][3:]}?", "yes" if is_so else "no"


_EVENTS = ("blinks", "grows", "shrinks", "enters", "leaves", "stops")


def _count_moving(scene: Scene, rng: np.random.Generator) -> Made:
    if any(obj.motion.kind in RESIZING or obj.motion.kind == "blinks" for obj in scene.objects):
        return None
    moving = sum(obj.motion.kind in _TRAVELING for obj in scene.objects)
    if rng.random() < 0.5:
        return "How many objects move?", NUMBERS[moving]
    return "How many objects stay still?", NUMBERS[len(scene.objects) - moving]


QUESTIONS: dict[str, Callable[[Scene, np.random.Generator], Made]] = {
    "count": _count,
    "color": _ask_color,
    "shape": _ask_shape,
    "texture": _ask_texture,
    "size": _ask_size,
    "existence": _exists,
    "more or fewer": _compare_counts,
    "larger or smaller": _compare_sizes,
    "place": _ask_place,
}
CLIP_QUESTIONS: dict[str, Callable[[Scene, np.random.Generator], Made]] = {
    "motion": _ask_motion,
    "who moves": _ask_who,
    "any motion": _any_motion,
    "count moving": _count_moving,
    "count": _count,
    "color": _ask_color,
    "shape": _ask_shape,
    "existence": _exists,
}
