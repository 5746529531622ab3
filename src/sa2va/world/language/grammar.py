"""Define the grammar of referring expressions in the drawn world: phrases, their words and their denotations.

Flow: expressions.py builds a Phrase -> to_words -> text; find_meaning -> the objects it denotes; denotes -> the objects
    still possible after a prefix of the words.
Shapes: N objects of a scene.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.relations import (
    RESIZING,
    SUPERLATIVES,
    Truth,
    find_most,
    find_nearest,
    find_nth,
    in_place,
    is_beside,
    moves_as,
)
from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES, Scene, WorldObject

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
RELATIONS = {
    ("left", "of"): "left",
    ("right", "of"): "right",
    ("above",): "above",
    ("below",): "below",
    ("nearest", "to"): "nearest",
}
SIDES = {"left": "left", "right": "right", "top": "above", "bottom": "below"}
PLACES = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
    **{f"{v} {h}": f"in the {v} {h} corner" for v in ("top", "bottom") for h in ("left", "right")},
}


def to_plural(noun: str) -> str:
    """Return the plural of a noun of the drawn world."""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def with_article(words: str) -> str:
    """Prefix words with "a" or "an"; the h of "hourglass" is silent."""
    return f"{'an' if words[0] in 'aeiou' or words.startswith('hour') else 'a'} {words}"


NOUNS = {"object": "object", **{shape: shape for shape in SHAPES}}
PLURALS = {to_plural(noun): noun for noun in NOUNS}


@dataclass(frozen=True)
class Attributes:
    """Attributes of a noun phrase; None is unspecified, and shape None is "object"."""

    size: str | None = None
    texture: str | None = None
    color: str | None = None
    shape: str | None = None

    def is_true(self, obj: WorldObject) -> Truth:
        if (
            (self.shape is not None and obj.shape != self.shape)
            or (self.color is not None and obj.color != self.color)
            or (self.texture is not None and obj.texture != self.texture)
        ):
            return False
        if self.size is not None and obj.motion.kind in RESIZING:
            return None  # the size changes over time
        return self.size is None or obj.size == self.size

    def to_words(self, plural: bool = False) -> list[str]:
        noun = self.shape or "object"
        words = [word for word in (self.size, self.texture, self.color) if word is not None]
        return [*words, to_plural(noun) if plural else noun]


@dataclass(frozen=True)
class Phrase:
    """The structure of one referring expression.

    Attributes:
        attributes: Attributes of the targets.
        determiner: "the", "both", "all", "the two", "the three", ...
        selector: A superlative ("largest") or an ordinal ("second"); None otherwise.
        modifier: Words after the noun ("on the left", "that is not red", "left of", "from the left").
        anchor: Attributes of the second object of a relation.
    """

    attributes: Attributes
    determiner: str = "the"
    selector: str | None = None
    modifier: tuple[str, ...] = ()
    anchor: Attributes | None = None

    @property
    def is_plural(self) -> bool:
        return self.determiner != "the"

    def to_words(self) -> tuple[str, ...]:
        words = [*self.determiner.split(), *([self.selector] if self.selector else [])]
        words += [*self.attributes.to_words(self.is_plural), *self.modifier]
        return tuple(words + (["the", *self.anchor.to_words()] if self.anchor else []))


def _build_modifiers() -> dict[tuple[str, ...], Callable[[WorldObject], Truth]]:
    """List every fixed modifier with its predicate on an object."""
    table: dict[tuple[str, ...], Callable[[WorldObject], Truth]] = {}

    def add(text: str, says: Callable[[WorldObject], Truth]) -> None:
        table[tuple(text.split())] = says

    def negate(attributes: Attributes) -> Callable[[WorldObject], Truth]:
        def says(obj: WorldObject) -> Truth:
            truth = attributes.is_true(obj)
            return None if truth is None else not truth

        return says

    for where, text in PLACES.items():
        add(text, lambda obj, where=where: in_place(obj, where))
        add(f"{text} at the start", lambda obj, where=where: in_place(obj, where))
    adjectives = [Attributes(size=word) for word in SIZES] + [Attributes(texture=word) for word in TEXTURES]
    adjectives += [Attributes(color=word) for word in COLORS]
    for attributes in adjectives:
        word = attributes.to_words()[0]
        add(f"that is not {word}", negate(attributes))
        add(f"that are not {word}", negate(attributes))
    for shape in SHAPES:
        add(f"that is not {with_article(shape)}", negate(Attributes(shape=shape)))
        add(f"that are not {to_plural(shape)}", negate(Attributes(shape=shape)))
    for kind in MOTIONS:
        add(" ".join(to_motion_words(kind)), lambda obj, kind=kind: moves_as(obj, kind))
        add(" ".join(to_motion_words(kind, plural=True)), lambda obj, kind=kind: moves_as(obj, kind))
    return table


def to_motion_words(kind: str, plural: bool = False) -> tuple[str, ...]:
    """Return the relative clause of a kind of motion: ("that", "moves", "left")."""
    verb, *rest = kind.split()
    if kind == "passes behind":
        rest.extend(("another", "object"))
    if plural:
        verb = verb[:-2] if verb.endswith("sses") else verb[:-1]
    return ("that", verb, *rest)


MODIFIERS = _build_modifiers()
_SELECTORS = (*SUPERLATIVES, *ORDINALS)


def find_meaning(scene: Scene, phrase: Phrase) -> frozenset[int] | None:
    """Find the objects that a phrase denotes.

    Returns:
        Indices into `scene.objects`, possibly none; None if ambiguous to a person.
    """
    truths = [phrase.attributes.is_true(obj) for obj in scene.objects]
    if phrase.anchor is not None:
        anchors = [phrase.anchor.is_true(obj) for obj in scene.objects]
        if None in anchors or sum(map(bool, anchors)) != 1:
            return None
        return _relate(scene.objects, truths, scene.objects[anchors.index(True)], RELATIONS[phrase.modifier])
    if phrase.selector is not None:
        if None in truths:
            return None
        found = _select(scene.objects, [i for i, truth in enumerate(truths) if truth], phrase)
        return None if found is None else frozenset((found,))
    if phrase.modifier:
        says = MODIFIERS[phrase.modifier]
        truths = [_both(truth, says, obj) for truth, obj in zip(truths, scene.objects, strict=True)]
    return None if None in truths else frozenset(i for i, truth in enumerate(truths) if truth)


def _both(truth: Truth, says: Callable[[WorldObject], Truth], obj: WorldObject) -> Truth:
    if truth is False:
        return False
    other = says(obj)
    return False if other is False else None if truth is None else other


def _relate(
    objects: Sequence[WorldObject], truths: list[Truth], anchor: WorldObject, relation: str
) -> frozenset[int] | None:
    if relation == "nearest":
        members = [i for i, truth in enumerate(truths) if truth and objects[i] is not anchor]
        found = find_nearest([objects[i] for i in members], anchor)
        return None if None in truths or found is None else frozenset((members[found],))
    truths = [_both(t, lambda obj: is_beside(obj, anchor, relation), o) for t, o in zip(truths, objects, strict=True)]
    return None if None in truths else frozenset(i for i, truth in enumerate(truths) if truth)


def _select(objects: Sequence[WorldObject], members: list[int], phrase: Phrase) -> int | None:
    chosen = [objects[i] for i in members]
    if phrase.selector in SUPERLATIVES:
        found = find_most(chosen, phrase.selector)
    else:
        found = find_nth(chosen, ORDINALS.index(phrase.selector) + 1, SIDES[phrase.modifier[-1]])
    return None if found is None else members[found]


def denotes(scene: Scene, words: Sequence[str]) -> frozenset[int]:
    """Find the objects that a prefix of an expression can still denote.

    An object is possible if some continuation denotes it: "the largest red" leaves every red object that is larger than
    another red one; "the circle left of" leaves every circle with an object to its right. The set never grows with more
    words, and the whole expression leaves exactly its targets.

    Args:
        scene: The scene.
        words: Prefix of an expression in lower case, possibly empty or complete.

    Returns:
        Indices into `scene.objects`.

    Raises:
        ValueError: a word that the grammar does not allow at its place.
    """
    selector, attributes, has_noun, rest = _read_head(list(words))
    members = [i for i, obj in enumerate(scene.objects) if attributes.is_true(obj)]
    objects = [scene.objects[i] for i in members]
    if selector is None:
        found = range(len(objects)) if not rest else _follow(scene, objects, rest, words)
    elif selector in SUPERLATIVES and has_noun:
        most = find_most(objects, selector)
        found = [] if most is None else [most]
    elif selector in SUPERLATIVES:
        beats = SUPERLATIVES[selector]
        found = [i for i, obj in enumerate(objects) if any(beats(obj, other) for other in objects)]
    elif not has_noun:
        found = range(len(objects)) if len(objects) > 1 else []
    else:
        sides = [SIDES[side] for side in SIDES if ("from", "the", side)[: len(rest)] == tuple(rest)]
        number = ORDINALS.index(selector) + 1
        found = [nth for side in sides if (nth := find_nth(objects, number, side)) is not None]
    return frozenset(members[i] for i in found)


def _read_head(words: list[str]) -> tuple[str | None, Attributes, bool, list[str]]:
    """Parse a noun phrase up to its noun.

    Returns:
        The selector, the attributes, whether the noun was found, and the words after it.
    """
    position, selector, attributes = 0, None, {}
    if words[:1] and words[0] in ("the", "both", "all"):
        position = 1
    if words[position : position + 1] and words[position] in NUMBERS:
        position += 1
    fields = {word: "size" for word in SIZES} | {word: "texture" for word in TEXTURES}
    fields |= {word: "color" for word in COLORS}
    for end, word in enumerate(words[position:], start=position + 1):
        noun = NOUNS.get(word) or PLURALS.get(word)
        if noun is not None:
            shape = None if noun == "object" else noun
            return selector, Attributes(**attributes, shape=shape), True, words[end:]
        if word in _SELECTORS and selector is None and not attributes:
            selector = word
        elif word in fields:
            attributes[fields[word]] = word
        else:
            raise ValueError(f"{' '.join(words)!r}: {word!r} does not fit the grammar at this place")
    return selector, Attributes(**attributes), False, []


def _follow(scene: Scene, objects: list[WorldObject], rest: list[str], words: Sequence[str]) -> Iterable[int]:
    """Find the indices in `objects` that the words after the noun leave possible."""
    prefix, found, known = tuple(rest), set(), False
    for modifier, says in MODIFIERS.items():
        if modifier[: len(prefix)] == prefix:
            known = True
            found.update(i for i, obj in enumerate(objects) if says(obj))
    for modifier, relation in RELATIONS.items():
        size = min(len(modifier), len(prefix))
        if modifier[:size] != prefix[:size]:
            continue
        known = True
        _, attributes, _, _ = _read_head(list(prefix[size:]))
        for anchor in (obj for obj in scene.objects if attributes.is_true(obj)):
            if relation == "nearest":
                nearest = find_nearest(objects, anchor)
                found.update(() if nearest is None else (nearest,))
            else:
                found.update(i for i, obj in enumerate(objects) if is_beside(obj, anchor, relation))
    if not known:
        raise ValueError(f"{' '.join(words)!r}: the words after the noun do not fit the grammar")
    return found


def vocabulary() -> tuple[str, ...]:
    """List all words of expressions, sorted."""
    words = {"the", "both", "all", *NUMBERS, *_SELECTORS, *SIZES, *TEXTURES, *COLORS, *NOUNS, *PLURALS, "from"}
    for phrase in (*MODIFIERS, *RELATIONS):
        words.update(phrase)
    return tuple(sorted(words | set(SIDES)))
