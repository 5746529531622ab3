"""Three-valued spatial predicates of drawn scenes: left of, above, largest, nearest, with None for ambiguous cases.

Flow: objects of scene.py -> predicates -> grammar.py (the meaning of a phrase).
    True and False are obvious to a person. None is ambiguous, and an expression that depends on it is never used.
Shapes: positions and radii are fractions of the side of the image, 0..1, y down.
"""

from collections.abc import Callable, Sequence

from sa2va.world.scenes.scene import WorldObject

Truth = bool | None

MARGIN = 0.06  # minimum clear difference of position, fraction of the side
RATIO = 1.25  # minimum clear ratio of radii or distances

SETTLED = frozenset({"stays still", "grows", "shrinks", "blinks"})  # motions that keep the position
RESIZING = frozenset({"grows", "shrinks"})

# Maximum distance at which an object is clearly at a place, and minimum distance at which it clearly is not.
_SIDE, _SIDE_OUT = 0.38, 0.48  # from a side of the image
_CENTER, _CENTER_OUT = 0.14, 0.22  # half width of the middle
_CORNER, _CORNER_OUT = 0.34, 0.44

# Kind of motion -> other kinds that the same words could describe.
_ALIKE = {
    "moves left": ("enters", "leaves", "stops", "passes behind"),
    "moves right": ("enters", "leaves", "stops", "passes behind"),
    "moves up": ("enters", "leaves", "stops", "passes behind"),
    "moves down": ("enters", "leaves", "stops", "passes behind"),
    "stays still": ("grows", "shrinks", "blinks"),
    "stops": ("enters",),  # an entered object stands still afterwards
}


def keeps_place(obj: WorldObject) -> bool:
    """Tell whether an object stays at (x, y) in every frame."""
    return obj.motion.kind in SETTLED


def moves_as(obj: WorldObject, kind: str) -> Truth:
    """Tell whether an object has a kind of motion; None for a similar kind."""
    if obj.motion.kind == kind:
        return True
    return None if obj.motion.kind in _ALIKE.get(kind, ()) else False


def in_place(obj: WorldObject, where: str) -> Truth:
    """Tell whether an object is in a region of the image, or of a clip's first frame.

    Args:
        obj: The object; one that enters later is in no region.
        where: "left", "right", "top", "bottom", "middle" or a corner such as "top left".
    """
    if obj.motion.kind == "enters":
        return False
    if where == "middle":
        off = max(abs(obj.x - 0.5), abs(obj.y - 0.5))
        return _graded(off, _CENTER, _CENTER_OUT)
    depths = {"left": obj.x, "right": 1 - obj.x, "top": obj.y, "bottom": 1 - obj.y}
    words = where.split()
    if len(words) == 1:
        return _graded(depths[where], _SIDE, _SIDE_OUT)
    return _graded(max(depths[word] for word in words), _CORNER, _CORNER_OUT)


def _graded(value: float, inside: float, outside: float) -> Truth:
    return True if value <= inside else False if value >= outside else None


def _offset(first: WorldObject, second: WorldObject, direction: str) -> tuple[float, float]:
    """Return the offset of `first` from `second` along a direction, and perpendicular to it."""
    right, down = first.x - second.x, first.y - second.y
    along = {"left": -right, "right": right, "above": -down, "below": down}[direction]
    return along, abs(down if direction in ("left", "right") else right)


def is_beside(first: WorldObject, second: WorldObject, direction: str) -> Truth:
    """Tell whether `first` is left of, right of, above or below `second`.

    True requires an offset in that direction of at least MARGIN and at least half the perpendicular offset.
    """
    if first is second:
        return False
    if not (keeps_place(first) and keeps_place(second)):
        return None
    along, sideways = _offset(first, second, direction)
    if along <= 0:
        return False
    return True if along >= MARGIN and along >= 0.5 * sideways else None


def is_past(first: WorldObject, second: WorldObject, direction: str) -> bool:
    """Tell whether `first` lies further in a direction than `second`, by at least MARGIN."""
    if not (keeps_place(first) and keeps_place(second)):
        return False
    return _offset(first, second, direction)[0] >= MARGIN


def is_larger(first: WorldObject, second: WorldObject) -> bool:
    """Tell whether `first` is larger than `second` by at least RATIO in radius, at all times."""
    if first.motion.kind in RESIZING or second.motion.kind in RESIZING:
        return False
    return first.radius >= RATIO * second.radius


SUPERLATIVES: dict[str, Callable[[WorldObject, WorldObject], bool]] = {
    "largest": is_larger,
    "smallest": lambda first, second: is_larger(second, first),
    "leftmost": lambda first, second: is_past(first, second, "left"),
    "rightmost": lambda first, second: is_past(first, second, "right"),
    "topmost": lambda first, second: is_past(first, second, "above"),
    "lowest": lambda first, second: is_past(first, second, "below"),
}


def find_most(objects: Sequence[WorldObject], word: str) -> int | None:
    """Find the index in `objects` that a superlative denotes; None if ambiguous, or with fewer than two objects."""
    beats = SUPERLATIVES[word]
    for index, obj in enumerate(objects):
        if len(objects) > 1 and all(beats(obj, other) for other in objects if other is not obj):
            return index
    return None


def find_nth(objects: Sequence[WorldObject], number: int, direction: str) -> int | None:
    """Find the index in `objects` of the number-th object from a side of the image; None if ambiguous.

    Args:
        objects: At least two.
        number: From 1, the outermost.
        direction: Side to count from: "left", "right", "above" (the top) or "below" (the bottom).
    """
    if not 1 <= number <= len(objects) or len(objects) < 2 or not all(keeps_place(obj) for obj in objects):
        return None
    horizontal = direction in ("left", "right")
    places = [obj.x if horizontal else obj.y for obj in objects]
    order = sorted(range(len(objects)), key=lambda index: places[index], reverse=direction in ("right", "below"))
    gaps = [abs(places[a] - places[b]) for a, b in zip(order, order[1:], strict=False)]
    return order[number - 1] if all(gap >= MARGIN for gap in gaps[:number]) else None


def distance(first: WorldObject, second: WorldObject) -> float:
    """Compute the distance between two centers."""
    return ((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5


def find_nearest(objects: Sequence[WorldObject], anchor: WorldObject) -> int | None:
    """Find the index in `objects` of the one nearest to `anchor`, excluding the anchor; None if ambiguous."""
    others = [index for index, obj in enumerate(objects) if obj is not anchor]
    if not others or not keeps_place(anchor) or not all(keeps_place(objects[index]) for index in others):
        return None
    others.sort(key=lambda index: distance(objects[index], anchor))
    if len(others) > 1:
        first, second = (distance(objects[index], anchor) for index in others[:2])
        if second < first + MARGIN or second < RATIO * first:
            return None
    return others[0]
