"""Build the referring segmentation and region description samples of the drawn world.

Flow: (seed, split, index) -> items.draw_item -> language.expressions -> turns whose spans refer to masks -> Sample.
    For regions the mask is part of the question and the answer is text.
Shapes: N objects of a scene, M masks of a sample, T frames, S side of the image in px.
"""

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.data import prompts
from sa2va.masks import bbox, region_to_mask
from sa2va.types import Sample, Span, Turn
from sa2va.world.language.descriptions import describe
from sa2va.world.language.expressions import Expression, denotes, expressions
from sa2va.world.language.noun_spans import find_noun_spans
from sa2va.world.scenes.scene import Scene
from sa2va.world.scenes.splits import Pairs, withheld_pairs
from sa2va.world.tasks.grounded_turn import GroundedTurn
from sa2va.world.tasks.items import draw_item, is_clip, is_heldout, render_item

BALANCED = "balanced"  # half absent objects, half present ones referred to in the same ways
REGION_FORMS = ("mask", "box", "point")
# Kinds of present objects in the proportions of absent ones, so that the wording does not reveal absence.
_PRESENT_LIKE_ABSENT = (*("attribute",) * 5, *("relation",) * 2, *("place",) * 2, "negation")
_PRESENT_LIKE_ABSENT_CLIP = ("attribute", "motion", "motion", "place")
_ATTEMPTS = 50


@dataclass(frozen=True)
class _Ask:
    """Expression to ask for. `shown=False` answers an absent object with an empty mask, without language loss."""

    expression: Expression
    shown: bool = True


def refseg(
    seed: int,
    split: str,
    index: int,
    *,
    num_turns: int = 6,
    kind: str | None = None,
    require_heldout: bool | None = None,
    empty_share: float = 0.25,
) -> Sample:
    """Ask for the masks of objects in an image, one expression per turn.

    An absent object is answered with "There is no ...". With probability `empty_share` per expression, a further turn
    asks for an absent object. Its empty mask trains the presence head; its answer has no language loss.

    Args:
        seed: Random seed of the scenes.
        split: "train", or any other name.
        index: Item of the split.
        num_turns: Number of expressions, not counting those of `empty_share`; fewer if the scene allows fewer.
        kind: One of expressions.KINDS, BALANCED, or None for the usual mixture.
        require_heldout: True = only objects whose color-shape pair training never shows, False = only others, None =
            any.
        empty_share: Probability per expression of an extra absent object with an empty mask; 0 for evaluation.

    Returns:
        The sample; `meta` has the "scene", and per turn "expressions", "kinds", "forms", "targets" (rows of
        `masks`), "present", "heldout" and "answers".

    Raises:
        ValueError: no scene allows the requested kind.
    """
    return _refer("refseg", seed, split, index, num_turns, kind, require_heldout, empty_share)


def video_refseg(
    seed: int,
    split: str,
    index: int,
    *,
    num_turns: int = 4,
    kind: str | None = None,
    require_heldout: bool | None = None,
    empty_share: float = 0.25,
) -> Sample:
    """Ask for the masks of objects in a clip; about half of the expressions need the motion. See `refseg`."""
    return _refer("video_refseg", seed, split, index, num_turns, kind, require_heldout, empty_share)


def _refer(
    task: str,
    seed: int,
    split: str,
    index: int,
    num_turns: int,
    kind: str | None,
    require_heldout: bool | None,
    empty_share: float,
) -> Sample:
    for attempt in range(_ATTEMPTS):
        needs = require_heldout is True and kind != "absent"
        scene, rng = draw_item(task, seed, split, index, require_heldout=needs, attempt=attempt)
        found = _write_expressions(scene, rng, num_turns, kind, require_heldout, is_clip(task), withheld_pairs(split))
        if found:
            asks = _add_empty(scene, rng, found, empty_share, is_clip(task), withheld_pairs(split))
            return _build(task, index, scene, rng, asks)
    raise ValueError(f"world/{task} item {index}: no scene offers kind {kind!r} with require_heldout={require_heldout}")


def _write_expressions(
    scene: Scene,
    rng: np.random.Generator,
    n: int,
    kind: str | None,
    heldout: bool | None,
    moving: bool,
    withheld: Pairs,
) -> list[Expression]:
    only = None
    write = partial(expressions, scene, rng, moving=moving, withheld=withheld)
    if heldout is not None:
        only = [i for i in range(len(scene.objects)) if is_heldout(scene, (i,)) is heldout]
        if not only:
            return []
    if kind == BALANCED:
        found: dict[str, Expression] = {}
        alike = _PRESENT_LIKE_ABSENT_CLIP if moving else _PRESENT_LIKE_ABSENT
        for _ in range(n):
            wanted = "absent" if rng.random() < 0.5 else str(rng.choice(alike))
            for written in write(1, kinds=(wanted,), only=only):
                found[written.text] = written
        return list(found.values())
    kinds = None if kind is None else (kind,)
    found = {e.text: e for e in write(n, kinds=kinds, only=only)}
    return [e for e in found.values() if heldout is not False or not is_heldout(scene, e.targets)]


def _add_empty(
    scene: Scene, rng: np.random.Generator, found: list[Expression], share: float, moving: bool, withheld: Pairs
) -> list[_Ask]:
    """Insert absent objects with an empty mask, except those whose absence another turn states."""
    asks = [_Ask(expression) for expression in found]
    wanted = int(rng.binomial(len(found), share))
    known = {expression.text for expression in found}
    if wanted:
        for extra in expressions(scene, rng, wanted, kinds=("absent",), moving=moving, withheld=withheld):
            if extra.text not in known:
                asks.insert(int(rng.integers(len(asks) + 1)), _Ask(extra, shown=False))
    return asks


def _build(task: str, index: int, scene: Scene, rng: np.random.Generator, asks: list[_Ask]) -> Sample:
    picture = render_item(scene, task)
    masks, nothing = picture.masks, len(picture.masks)
    if not all(ask.shown for ask in asks):
        masks = np.concatenate([masks, np.zeros_like(masks[:1])])  # the last mask is empty
    turns = tuple(_build_turn(ask, scene, nothing, rng) for ask in asks)
    written = [ask.expression for ask in asks]
    meta = {
        "index": index,
        "scene": scene,
        "expressions": [expression.text for expression in written],
        "kinds": [expression.kind for expression in written],
        "forms": [expression.form for expression in written],
        "targets": [list(expression.targets) for expression in written],
        "present": [bool(expression.targets) for expression in written],
        "heldout": [is_heldout(scene, expression.targets) for expression in written],
        "names_unseen": [expression.names_unseen for expression in written],
        "motions": [[scene.objects[target].motion.kind for target in expression.targets] for expression in written],
        "needs_motion": [expression.needs_motion for expression in written],
        "answers": [turn.answer for turn in turns],
    }
    return Sample.of_arrays(frames=picture.frames, turns=turns, masks=masks, task=f"world/{task}", meta=meta)


def write_request(scene: Scene, expression: Expression, rng: np.random.Generator, *, shown: bool = True) -> Turn:
    """Ask for the mask of an expression's targets.

    An absent object is answered in words. With `shown=False` it is answered with a [SEG] token instead. The mask
    of this token is empty (the row after those of the scene's objects), and the answer has no language loss.
    """
    return _build_turn(_Ask(expression, shown), scene, len(scene.objects), rng)


def _build_turn(ask: _Ask, scene: Scene, empty_row: int, rng: np.random.Generator) -> Turn:
    expression = ask.expression
    is_group = len(expression.targets) > 1
    question = prompts.pick(rng, prompts.SEGMENT_GROUP if is_group else prompts.SEGMENT).format(expression.text)
    possible, nouns = _possible_after(scene, expression, question), find_noun_spans(scene, question)
    if not expression.targets and ask.shown:
        missing = prompts.NOT_FOUND.format(expression.text.removeprefix("the "))
        answer = missing if expression.form == "attribute" else prompts.NOT_FOUND_ANY
        return GroundedTurn(question=question, answer=answer, possible=possible, nouns=nouns)
    answer = prompts.pick(rng, prompts.FOUND_GROUP if is_group else prompts.FOUND)
    place = len(answer) - 1  # before the full stop
    span = Span(start=place, end=place, objects=expression.targets or (empty_row,))
    return GroundedTurn(
        question=question, answer=answer, spans=(span,), supervised=ask.shown, possible=possible, nouns=nouns
    )


def _possible_after(scene: Scene, expression: Expression, question: str) -> tuple[Span, ...]:
    """List the words that rule out objects, each with the objects still possible after it."""
    start, spans = question.index(expression.text), []
    for number, word in enumerate(expression.words):
        possible = denotes(scene, expression.words[: number + 1])
        if len(possible) < len(scene.objects):
            spans.append(Span(start=start, end=start + len(word), objects=tuple(sorted(possible))))
        start += len(word) + 1
    return tuple(spans)


def region(seed: int, split: str, index: int, *, num_regions: int | None = None, form: str | None = None) -> Sample:
    """Describe marked regions of an image, one per turn; all marks are part of the first turn.

    Args:
        seed: Random seed of the scenes.
        split: "train", or any other name.
        index: Item of the split.
        num_regions: Number of regions, at most one per object; None = 1 to 3.
        form: Form of the marks, one of REGION_FORMS; None = mixed.

    Returns:
        The sample; `meta` has per turn "answers", "forms", "kinds", "targets" (indices in the scene), "heldout".
    """
    scene, rng = draw_item("region", seed, split, index)
    number = int(rng.integers(1, 4)) if num_regions is None else num_regions
    picture = render_item(scene, "region")
    chosen = [int(i) for i in rng.permutation(len(scene.objects))[:number]]
    forms = [form or str(rng.choice(REGION_FORMS)) for _ in chosen]
    regions = tuple(mark(picture.masks[i, 0], how, rng) for i, how in zip(chosen, forms, strict=True))
    turns = []
    for rank, target in enumerate(chosen):
        template = prompts.pick(rng, prompts.NEXT_REGION if rank else prompts.REGION)
        answer = f"It is {describe(scene.objects[target])}."
        turns.append(
            Turn(
                question=template.format(f"region{rank + 1}"),
                answer=answer,
                regions=() if rank else regions,
            )
        )
    meta = {
        "index": index,
        "answers": [turn.answer for turn in turns],
        "forms": forms,
        "kinds": ["region"] * len(turns),
        "targets": [[target] for target in chosen],
        "heldout": [is_heldout(scene, (target,)) for target in chosen],
    }
    return Sample.of_arrays(frames=picture.frames, turns=tuple(turns), task="world/region", meta=meta)


def mark(mask: NDArray[np.bool_], form: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark an object as a user would.

    Args:
        mask: Visible pixels, bool (S, S), not empty.
        form: "mask" = these pixels, "box" = their bounding box, "point" = a dot well inside.
        rng: Random generator for the point.

    Returns:
        bool (S, S).
    """
    if form == "mask":
        return mask
    if form == "box":
        box = bbox(mask)
        assert box is not None, "an object without visible pixels cannot be marked"
        return region_to_mask(box, *mask.shape)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    inside = np.argwhere(depth >= 0.6 * depth.max())  # (K, 2), y x
    y, x = inside[int(rng.integers(len(inside)))]
    return region_to_mask((x + 0.5, y + 0.5), *mask.shape)
