"""Write expressions that denote exactly the objects they are given for.

Flow: objects of an item -> Geometry -> write_expressions -> data/referring.py. Category names give "the cat",
    "the cats", "the left cat", "the second cat from the left"; a place only where it is clear by a margin.
Shapes: M objects, T frames, H W picture; boxes are (x0, y0, x1, y1) px.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa2va.data.own.naming import normalize, pluralize
from sa2va.data.own.objects import OwnConfig, OwnItem, OwnObject
from sa2va.data.referring import Expression
from sa2va.masks import measure_rle

ORDINALS = ("first", "second", "third", "fourth", "fifth")
SIDES = (("left", "right"), ("top", "bottom"))  # along x and along y


@dataclass(frozen=True)
class Geometry:
    """Boxes and areas of the objects of an item on its frames."""

    boxes: NDArray[np.float64]  # (M, T, 4) px; NaN where an object is not visible
    areas: NDArray[np.float64]  # (M, T) px
    size: tuple[int, int]  # (H, W) px

    @property
    def shares(self) -> NDArray[np.float64]:
        """Largest share of the picture that each object covers on any frame, (M,)."""
        return self.areas.max(1, initial=0.0) / (self.size[0] * self.size[1])

    def before(self, rows: Sequence[int], axis: int, margin: float) -> NDArray[np.bool_]:
        """Tell which of n objects lies clearly before which along x (axis 0) or y (axis 1), bool (n, n).

        The center and both edges must agree on every frame, and the centers differ by a share of the picture's side.
        Along y, they must also differ more than along x: of two that stand side by side, none is called the top one.
        False if the objects are not all visible on the same frames.
        """
        boxes = self.boxes[list(rows)]
        boxes = boxes[:, ~np.isnan(boxes[..., 0]).all(0)]  # frames with one of them
        low, high = boxes[..., axis], boxes[..., axis + 2]
        centers = (boxes[..., :2] + boxes[..., 2:]) / 2
        apart = centers - centers[:, None]  # (n, n, T, 2), of the second from the first
        clear = (low[:, None] < low) & (high[:, None] < high) & (apart[..., axis] >= margin * self.size[1 - axis])
        if axis == 1:
            clear &= apart[..., 1] > abs(apart[..., 0])
        return np.logical_and(clear.all(-1), clear.shape[-1] > 0)


def measure(objects: Sequence[OwnObject], size: tuple[int, int], num_frames: int) -> Geometry:
    """Measure boxes and areas from run lengths."""
    boxes = np.full((len(objects), num_frames, 4), np.nan)
    areas = np.zeros((len(objects), num_frames))
    for row, one in enumerate(objects):
        for column, rle in enumerate(one.frames):
            if rle is None:
                continue
            areas[row, column], box = measure_rle(rle)
            if areas[row, column]:
                boxes[row, column] = box
    return Geometry(boxes, areas, size)


def write_expressions(item: OwnItem, config: OwnConfig, *, is_union: bool) -> tuple[Expression, ...]:
    """Write all expressions of an item: annotated ones, and those of category names.

    Args:
        item: the picture or clip.
        config: which expressions to write.
        is_union: whether an expression of several objects has one mask for all of them.
    """
    size = item.media.height, item.media.width
    geometry = measure(item.objects, size, max((len(one.frames) for one in item.objects), default=0))
    found = _annotated(item.objects)
    taken = {_key(one.text) for one in found}
    if config.category_names and all(one.category for one in item.objects):
        found += [one for one in _named(item, geometry, config, is_union) if _key(one.text) not in taken]
    shares, limit = geometry.shares, len(item.objects) if is_union else config.max_members
    return tuple(
        one
        for one in found
        if len(one.objects) <= limit
        and shares[list(one.objects)].all()
        and (shares[list(one.objects)].sum() if is_union else shares[list(one.objects)].min()) >= config.min_area
    )


def write_absent(item: OwnItem, categories: Sequence[str]) -> tuple[str, ...]:
    """Write expressions of categories that are not in an item.

    A category is left out if its name ends with that of one that is there, or the other way round: a picture
    of a sports car is no example of "There is no car."
    """
    if item.absent is None and not all(one.category for one in item.objects):
        return ()
    allowed = None if item.absent is None else {normalize(name) for name in item.absent}
    present = {normalize(one.category) for one in item.objects} | {normalize(name) for name in item.partial}
    names = dict.fromkeys(normalize(name) for name in categories)
    return tuple(
        name
        for name in names
        if (allowed is None or name in allowed) and not any(_is_kind(name, o) or _is_kind(o, name) for o in present)
    )


def _annotated(objects: Sequence[OwnObject]) -> list[Expression]:
    """Group the annotated expressions of an item: one text denotes all objects that it is given for."""
    texts: dict[str, str] = {}
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(objects):
        for text in one.expressions:
            texts.setdefault(_key(text), text)
            rows.setdefault(_key(text), []).append(row)
    return [Expression(texts[key], tuple(dict.fromkeys(rows[key]))) for key in texts]


def _named(item: OwnItem, geometry: Geometry, config: OwnConfig, is_union: bool) -> list[Expression]:
    names = [normalize(one.category) for one in item.objects]
    partial = [normalize(name) for name in item.partial]
    found = []
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if _is_kind(other, name)]
        if any(_is_kind(other, name) for other in partial) or not geometry.shares[rows].all():
            continue  # some are not annotated, or have no mask
        regions = [row for row in rows if item.objects[row].is_region]
        if regions == rows and len(rows) == 1:
            found.append(Expression(name, (rows[0],)))
        elif regions:
            if is_union and len(rows) > len(regions):
                found.append(Expression(f"the {pluralize(name)}", tuple(rows)))
        elif len(rows) == 1:
            found.append(Expression(f"the {name}", (rows[0],)))
        else:
            found.append(Expression(f"the {pluralize(name)}", tuple(rows)))
            found += _placed(name, rows, geometry, config.margin) if config.places else []
    return found


def _placed(name: str, rows: Sequence[int], geometry: Geometry, margin: float) -> list[Expression]:
    """Tell objects of one name apart by their place."""
    found, last = [], len(rows) - 1
    for axis, sides in enumerate(SIDES):
        before = geometry.before(rows, axis, margin)
        num_before, num_after = before.sum(0), before.sum(1)
        for place, row in enumerate(rows):
            rank = int(num_before[place])
            if rank + num_after[place] == last:  # clearly before or after each of the others
                found += [Expression(text, (row,)) for text in _place_texts(name, rank, last, sides)]
    return found


def _place_texts(name: str, rank: int, last: int, sides: tuple[str, str]) -> list[str]:
    """Write the places of object `rank` of 0..last along a direction; counts only from left and right."""
    if rank in (0, last):
        side = sides[0] if rank == 0 else sides[1]
        return [f"the {side}{'most' if last > 1 and sides == SIDES[0] else ''} {name}"]
    if sides != SIDES[0]:
        return []
    counts = ((rank, sides[0]), (last - rank, sides[1]))
    return [f"the {ORDINALS[count]} {name} from the {side}" for count, side in counts if count < len(ORDINALS)]


def _is_kind(name: str, kind: str) -> bool:
    """Tell whether a name may be called by another: a "sports car" is a "car"."""
    return name == kind or name.endswith(" " + kind)


def _key(text: str) -> str:
    return text.rstrip(".").strip().casefold()
