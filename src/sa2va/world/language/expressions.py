"""Generate referring expressions that denote exactly their targets in a drawn scene.

Flow: Scene -> expressions (propose a phrase of a kind, keep it if find_meaning is unambiguous) -> world/tasks/.
    The kinds formalize those of RefCOCO; absent objects are hard negatives.
Shapes: N objects of a scene; targets are indices into `scene.objects`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from sa2va.world.language.grammar import (
    NUMBERS,
    ORDINALS,
    PLACES,
    RELATIONS,
    SIDES,
    Attributes,
    Phrase,
    denotes,
    find_meaning,
    to_motion_words,
    to_plural,
    vocabulary,
    with_article,
)
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.relations import SUPERLATIVES
from sa2va.world.scenes.scene import Scene, WorldObject
from sa2va.world.scenes.splits import UNSEEN_PAIRS, Pairs

__all__ = ["Expression", "KINDS", "CLIP_KINDS", "denotes", "expressions", "identify", "vocabulary"]

KINDS = {  # kind -> share of expressions about an image
    "attribute": 0.28,
    "place": 0.10,
    "relation": 0.15,
    "ordinal": 0.07,
    "superlative": 0.10,
    "negation": 0.08,
    "group": 0.10,
    "absent": 0.12,
}
CLIP_KINDS = {  # kind -> share of expressions about a clip, which may depend on motion
    "motion": 0.46,
    "attribute": 0.16,
    "place": 0.07,
    "relation": 0.05,
    "superlative": 0.03,
    "negation": 0.03,
    "group": 0.08,
    "absent": 0.12,
}
_ATTEMPTS = 24  # proposals per kind
_MOTION_WORDS = frozenset(to_motion_words(kind, plural=plural) for kind in MOTIONS for plural in (False, True))
_FIELDS = ("size", "texture", "color", "shape")
_UNSEEN_ABSENT = 0.08  # share of absent "attribute" expressions with a pair that training never shows, if allowed


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A referring expression and its targets.

    Attributes:
        text: Lower-case words separated by single spaces.
        targets: Indices into `scene.objects`, left to right; empty for an absent object.
        kind: One of KINDS or "motion".
        form: Same as `kind`; for "absent", the kind of phrase.
        needs_motion: Without its motion words the expression would be ambiguous or denote other objects.
        names_unseen: The expression names a pair of color and shape that training never shows.
    """

    text: str
    targets: tuple[int, ...]
    kind: str
    form: str
    needs_motion: bool = False
    names_unseen: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.text.split())


def expressions(
    scene: Scene,
    rng: np.random.Generator,
    n: int,
    *,
    kinds: Collection[str] | None = None,
    moving: bool = False,
    only: Collection[int] | None = None,
    withheld: Pairs = UNSEEN_PAIRS,
) -> list[Expression]:
    """Generate distinct expressions about one scene.

    Args:
        scene: The scene.
        rng: Random generator.
        n: Number of expressions; fewer if the scene allows fewer.
        kinds: Kinds to use, in their usual proportions; None = all.
        moving: The scene is shown as a clip.
        only: Indices of objects, at least one of which must be a target; None = all. Ignored for absent objects.
        withheld: Pairs of color and shape that absent objects may not have; see splits.withheld_pairs.

    Returns:
        At most `n` expressions, no two with the same text.
    """
    shares = {kind: share for kind, share in (CLIP_KINDS if moving else KINDS).items() if not kinds or kind in kinds}
    if not shares:
        raise ValueError(f"kinds {kinds}: expected some of {', '.join(CLIP_KINDS if moving else KINDS)}")
    found: dict[str, Expression] = {}
    for _ in range(3 * n):
        if len(found) == n:
            break
        left = dict(shares)
        while left:  # fall back to another kind if the scene does not allow this one
            weights = np.array(list(left.values()))
            kind = str(rng.choice(list(left), p=weights / weights.sum()))
            expression = _write(scene, rng, kind, moving, only, withheld, found)
            if expression is not None:
                found[expression.text] = expression
                break
            del left[kind]
    return list(found.values())


def _write(
    scene: Scene,
    rng: np.random.Generator,
    kind: str,
    moving: bool,
    only: Collection[int] | None,
    withheld: Pairs,
    known: Collection[str],
) -> Expression | None:
    for _ in range(_ATTEMPTS):
        form = kind
        if kind == "absent":
            phrase, form = _propose_absent(scene, rng, moving, withheld)
        elif kind == "group":
            phrase = _propose_group(scene, rng, moving)
        else:
            phrase = _PROPOSALS[kind](scene, rng, _pick_target(scene, rng, only), moving)
        meaning = None if phrase is None else find_meaning(scene, phrase)
        if phrase is None or meaning is None or (only and kind != "absent" and not meaning & set(only)):
            continue
        wanted = {"absent": not meaning, "group": len(meaning) > 1}.get(kind, len(meaning) == 1)
        text = " ".join(phrase.to_words())
        if wanted and text not in known:
            targets = tuple(sorted(meaning, key=lambda i: (scene.objects[i].x, scene.objects[i].y)))
            needs_motion = _names_motion(phrase) and find_meaning(scene, replace(phrase, modifier=())) != meaning
            return Expression(
                text=text, targets=targets, kind=kind, form=form, needs_motion=needs_motion,
                names_unseen=_pair_of(phrase) in UNSEEN_PAIRS,
            )  # fmt: skip
    return None


def _pair_of(phrase: Phrase) -> tuple[str | None, str | None]:
    return phrase.attributes.color, phrase.attributes.shape


def _names_motion(phrase: Phrase) -> bool:
    return phrase.modifier in _MOTION_WORDS


def _pick_target(scene: Scene, rng: np.random.Generator, only: Collection[int] | None) -> int:
    """Sample an object to refer to, preferring objects that share attributes with others."""
    objects = scene.objects
    choices = sorted(only) if only else range(len(objects))
    alike = [
        any(o is not objects[i] and (o.color == objects[i].color or o.shape == objects[i].shape) for o in objects)
        for i in choices
    ]
    weights = np.where(alike, 4.0, 1.0)
    return int(rng.choice(list(choices), p=weights / weights.sum()))


def identify(scene: Scene, target: int, rng: np.random.Generator, without: tuple[str, ...] = ()) -> Attributes | None:
    """Sample attributes that identify one object, mostly as few as possible.

    Args:
        scene: The scene.
        target: Index of the object.
        rng: Random generator.
        without: Attributes that may not be used ("size", "texture", "color", "shape").

    Returns:
        The attributes, or None if no combination is unique.
    """
    unique = [
        a for a in _attribute_subsets(scene.objects[target], without) if find_meaning(scene, Phrase(a)) == {target}
    ]
    if not unique:
        return None
    if rng.random() < 0.75:
        fewest = min(_count_adjectives(a) for a in unique)
        unique = [a for a in unique if _count_adjectives(a) == fewest]
    weights = np.array([_weigh(a) for a in unique])
    return unique[int(rng.choice(len(unique), p=weights / weights.sum()))]


@lru_cache(maxsize=4096)
def _attribute_subsets(obj: WorldObject, without: tuple[str, ...] = ()) -> tuple[Attributes, ...]:
    """List all combinations of an object's attributes."""
    found = []
    for said in range(16):
        names = [name for bit, name in enumerate(_FIELDS) if said >> bit & 1]
        if not set(names) & set(without):
            found.append(Attributes(**{name: getattr(obj, name) for name in names}))
    return tuple(found)


def _count_adjectives(attributes: Attributes) -> int:
    return sum(word is not None for word in (attributes.size, attributes.texture, attributes.color))


def _weigh(attributes: Attributes) -> float:
    """Weight a combination by how people refer: shape, then color; rarely "object" or "plain"."""
    weight = 1.0 if attributes.shape else 0.2
    weight *= 1.0 if attributes.color else 0.7
    weight *= 0.3 if attributes.texture == "plain" else 0.7 if attributes.texture else 1.0
    return weight * (0.7 if attributes.size else 1.0)


def _shared_attributes(
    scene: Scene, rng: np.random.Generator, target: int, without: tuple[str, ...] = ()
) -> Attributes:
    """Sample attributes that the target shares with another object, so that they are ambiguous alone."""
    shared = []
    for attributes in _attribute_subsets(scene.objects[target], without):
        if sum(attributes.is_true(obj) is True for obj in scene.objects) > 1:
            shared.append(attributes)
    if not shared:
        return Attributes()
    weights = np.array([_weigh(a) * (0.5 if a == Attributes() else 1.0) for a in shared])
    return shared[int(rng.choice(len(shared), p=weights / weights.sum()))]


def _propose_attribute(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    attributes = identify(scene, target, rng)
    return None if attributes is None else Phrase(attributes)


def _say_place(rng: np.random.Generator, moving: bool) -> tuple[str, ...]:
    text = PLACES[str(rng.choice(list(PLACES)))]
    return tuple((f"{text} at the start" if moving else text).split())


def _propose_place(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    return Phrase(_shared_attributes(scene, rng, target), modifier=_say_place(rng, moving))


def _propose_relation(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    anchor = int(rng.integers(len(scene.objects)))
    anchor_attributes = identify(scene, anchor, rng)
    if anchor == target or anchor_attributes is None:
        return None
    modifier = list(RELATIONS)[int(rng.integers(len(RELATIONS)))]
    attributes = _shared_attributes(scene, rng, target) if rng.random() < 0.9 else identify(scene, target, rng)
    return None if attributes is None else Phrase(attributes, modifier=modifier, anchor=anchor_attributes)


def _propose_ordinal(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    attributes = _shared_attributes(scene, rng, target)
    count = sum(attributes.is_true(obj) is True for obj in scene.objects)
    if count < 2:
        return None
    side = str(rng.choice(list(SIDES)))
    selector = ORDINALS[int(rng.integers(1, min(count, 5)))]
    return Phrase(attributes, selector=selector, modifier=("from", "the", side))


def _propose_superlative(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    word = str(rng.choice(list(SUPERLATIVES)))
    without = ("size",) if word in ("largest", "smallest") else ()
    return Phrase(_shared_attributes(scene, rng, target, without), selector=word)


def _propose_negation(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    """Propose "the circle that is not red" if another circle is red."""
    name = str(rng.choice(_FIELDS))
    attributes = _shared_attributes(scene, rng, target, (name,))
    others = sorted({getattr(o, name) for o in scene.objects if attributes.is_true(o)})
    others = [word for word in others if word != getattr(scene.objects[target], name)]
    if not others:
        return None
    return Phrase(attributes, modifier=_say_not(name, str(rng.choice(others))))


def _say_not(name: str, word: str, plural: bool = False) -> tuple[str, ...]:
    if name == "shape":
        word = to_plural(word) if plural else with_article(word)
    return ("that", "are" if plural else "is", "not", *word.split())


def _propose_motion(scene: Scene, rng: np.random.Generator, target: int, moving: bool) -> Phrase | None:
    attributes = _shared_attributes(scene, rng, target) if rng.random() < 0.85 else identify(scene, target, rng)
    modifier = to_motion_words(scene.objects[target].motion.kind)
    return None if attributes is None else Phrase(attributes, modifier=modifier)


_PROPOSALS: dict[str, Callable[[Scene, np.random.Generator, int, bool], Phrase | None]] = {
    "attribute": _propose_attribute,
    "place": _propose_place,
    "relation": _propose_relation,
    "ordinal": _propose_ordinal,
    "superlative": _propose_superlative,
    "negation": _propose_negation,
    "motion": _propose_motion,
}


def _propose_group(scene: Scene, rng: np.random.Generator, moving: bool) -> Phrase | None:
    target = int(rng.integers(len(scene.objects)))
    attributes, modifier = _shared_attributes(scene, rng, target), ()
    extra = rng.random()
    if extra < 0.15:
        modifier = _say_place(rng, moving)
    elif extra < 0.3 or attributes == Attributes():
        name = str(rng.choice([name for name in _FIELDS if getattr(attributes, name) is None] or ["size"]))
        words = sorted({getattr(obj, name) for obj in scene.objects})
        attributes = replace(attributes, **{name: None})
        modifier = _say_not(name, str(rng.choice(words)), plural=True)
    elif moving and extra < 0.5:
        modifier = to_motion_words(scene.objects[target].motion.kind, plural=True)
    meaning = find_meaning(scene, Phrase(attributes, "all", modifier=modifier))
    if meaning is None or len(meaning) < 2:
        return None
    if len(meaning) == 2:
        determiner = "both" if rng.random() < 0.7 else "the two"
    else:
        determiner = "all" if rng.random() < 0.6 else f"the {NUMBERS[len(meaning)]}"
    return Phrase(attributes, determiner, modifier=modifier)


def _propose_absent(scene: Scene, rng: np.random.Generator, moving: bool, withheld: Pairs) -> tuple[Phrase | None, str]:
    """Propose a hard negative: a phrase for an absent object, built mostly from words that fit some object."""
    forms = {"attribute": 0.5, "motion": 0.35, "place": 0.15} if moving else _ABSENT_FORMS
    form = str(rng.choice(list(forms), p=list(forms.values())))
    target = int(rng.integers(len(scene.objects)))
    attributes = Attributes(**{n: getattr(scene.objects[int(rng.integers(len(scene.objects)))], n) for n in _FIELDS})
    if form == "attribute":
        attributes = _name_unseen(rng, attributes, UNSEEN_PAIRS - withheld)
        dropped = [name for name in ("size", "texture") if rng.random() < 0.75 or getattr(attributes, name) == "plain"]
        dropped += [name for name in ("color", "shape") if rng.random() < 0.1]
        phrase = Phrase(replace(attributes, **dict.fromkeys(dropped)))
    elif form == "motion":
        kind = str(rng.choice(MOTIONS if rng.random() < 0.4 else [obj.motion.kind for obj in scene.objects]))
        phrase = Phrase(_sample_attributes(scene, rng, target), modifier=to_motion_words(kind))
    elif form == "negation":  # negate an attribute that the object has
        name = str(rng.choice(_FIELDS))
        said = replace(_sample_attributes(scene, rng, target), **{name: None})
        phrase = Phrase(said, modifier=_say_not(name, getattr(scene.objects[target], name)))
    else:
        phrase = _PROPOSALS[form](scene, rng, target, moving)
        if phrase is not None and rng.random() < 0.5:
            phrase = replace(phrase, attributes=_sample_attributes(scene, rng, target))
    if phrase is None or _pair_of(phrase) in withheld:
        return None, form
    return phrase, form


def _name_unseen(rng: np.random.Generator, attributes: Attributes, pairs: Pairs) -> Attributes:
    """With probability _UNSEEN_ABSENT, change the color or the shape to get one of `pairs`."""
    if not pairs or rng.random() >= _UNSEEN_ABSENT:
        return attributes
    near = sorted(pair for pair in pairs if pair[0] == attributes.color or pair[1] == attributes.shape)
    color, shape = near[int(rng.integers(len(near)))]
    return replace(attributes, color=color, shape=shape)


_ABSENT_FORMS = {"attribute": 0.59, "relation": 0.25, "place": 0.12, "negation": 0.04}


def _sample_attributes(scene: Scene, rng: np.random.Generator, target: int) -> Attributes:
    said = [attributes for attributes in _attribute_subsets(scene.objects[target]) if attributes != Attributes()]
    weights = np.array([_weigh(attributes) for attributes in said])
    return said[int(rng.choice(len(said), p=weights / weights.sum()))]
