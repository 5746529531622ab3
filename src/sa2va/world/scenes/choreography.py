"""Sample the objects of a clip with motions along collision-free paths.

Flow: sampling.make_scene(moving=True) -> draw_clip -> objects with a Motion, back to front.
    Most clips contain twins: two objects of identical appearance that differ only in motion.
Shapes: N objects, P moments at which paths are checked; lengths are fractions of the side, y down.
"""

from dataclasses import dataclass, replace

import numpy as np

from sa2va.world.scenes.appearance import Appearance, draw_appearances, draw_radius, draw_texture, pick
from sa2va.world.scenes.motion import MOTIONS, STILL, Motion
from sa2va.world.scenes.scene import COLORS, SIZES, WorldObject
from sa2va.world.scenes.shapes import CONVEX_SHAPES, place_outline
from sa2va.world.scenes.splits import SEEN_PAIRS, Pairs

_MOMENTS = np.linspace(0.0, 1.0, 31)  # (P,)
_TWINS = 0.62  # share of clips with twins
_MARGIN = 0.012  # free border of the image
_REACH = 1.15  # farthest corner of a rotated shape, in radii
_GRAZING = 6  # maximum number of moments at which two objects touch
_NEAREST = 0.72  # minimum distance of two objects over the sum of their radii
_PLACE_TRIES = 30
_MOVING = MOTIONS[1:]
_ODDS = np.array([1.6 if kind == "passes behind" else 1.0 for kind in _MOVING]) / (len(_MOVING) + 0.6)
_SIZES_OF = {"passes behind": {"small"}, "grows": {"small", "medium"}, "shrinks": {"medium", "large"}}
_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_COMES_OR_GOES = frozenset({"enters", "leaves", "stops", "passes behind"})


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Appearances and motions before placement. Movers come first; `screen` hides object `passer`."""

    appearances: list[Appearance]
    kinds: list[str]
    twins: bool  # objects 0 and 1 look the same
    passer: int | None = None
    screen: int | None = None


@dataclass(frozen=True)
class _Path:
    """The disk of one object over time."""

    xy: np.ndarray  # (P, 2)
    radius: np.ndarray  # (P,)

    def clear_of(self, other: "_Path") -> bool:
        """Tell whether the two are apart at the start and touch only briefly later."""
        gap = np.hypot(*(self.xy - other.xy).T) / (self.radius + other.radius)  # (P,)
        return bool(gap[0] >= 1.0 and gap.min() >= _NEAREST and (gap < 0.98).sum() <= _GRAZING)


def tells_apart(first: str, second: str) -> bool:
    """Tell whether two kinds of motion are clearly different, so that each identifies one of two twins."""
    straight = {kind for kind in (first, second) if kind.startswith("moves")}
    vague = {first, second} & _COMES_OR_GOES
    return first != second and not (straight and vague) and {first, second} != {"enters", "stops"}


def draw_clip(rng: np.random.Generator, *, held_out: Pairs) -> list[WorldObject]:
    """Sample the objects of a clip.

    Args:
        rng: Random generator.
        held_out: Held-out pairs, at least one of which occurs; empty = none occurs.

    Returns:
        2 to 5 objects, back to front; 1 to 3 of them move.
    """
    num_objects, twins = int(rng.integers(2, 6)), bool(rng.random() < _TWINS)
    num_movers = int(rng.integers(1, min(3, num_objects) + 1))
    failures = 0
    while True:
        plan = _draw_plan(rng, num_objects, num_movers, twins=twins, held_out=held_out, crowded=failures >= 12)
        objects = _place_all(rng, plan) if plan is not None else None
        if plan is not None and objects is not None:
            return _stack(rng, objects, plan)
        failures += plan is not None


def _draw_plan(
    rng: np.random.Generator, num_objects: int, num_movers: int, *, twins: bool, held_out: Pairs, crowded: bool
) -> _Plan | None:
    """Sample appearances and motions, or return None if they are incompatible; `crowded` prefers small objects."""
    kinds = [str(kind) for kind in rng.choice(_MOVING, size=num_movers, p=_ODDS)]
    kinds += ["stays still"] * (num_objects - num_movers)
    appearances = draw_appearances(rng, num_objects, held_out=held_out)
    if twins:
        appearances[1] = appearances[0]
        if not tells_apart(kinds[0], kinds[1]):
            return None
    passers = [index for index, kind in enumerate(kinds) if kind == "passes behind"]
    screens = [index for index in range(2 if twins else 1, num_objects) if kinds[index] == "stays still"]
    if len(passers) > 1 or (passers and not screens):
        return None
    screen = screens[-1] if passers else None
    for index in range(num_objects):
        pair_kinds = kinds[:2] if twins and index < 2 else [kinds[index]]
        sizes = [size for size in SIZES if all(size in _SIZES_OF.get(kind, SIZES) for kind in pair_kinds)]
        if not sizes:
            return None
        if appearances[index].size not in sizes or (crowded and index != screen):
            appearances[index] = replace(appearances[index], size=sizes[0])
    if screen is not None:
        appearances[screen] = _draw_screen(rng, appearances[passers[0]])
    if bool(held_out) != any(appearance.pair in held_out for appearance in appearances):
        return None
    return _Plan(
        appearances=appearances, kinds=kinds, twins=twins, passer=passers[0] if passers else None, screen=screen
    )


def _draw_screen(rng: np.random.Generator, passer: Appearance) -> Appearance:
    """Sample the appearance of a large occluder in another color."""
    pairs = [
        (color, shape)
        for color in COLORS
        for shape in CONVEX_SHAPES
        if color != passer.color and (color, shape) in SEEN_PAIRS
    ]
    color, shape = pairs[int(rng.integers(len(pairs)))]
    return Appearance(color=color, shape=shape, size="large", texture=draw_texture(rng))


def _place_all(rng: np.random.Generator, plan: _Plan) -> list[WorldObject] | None:
    """Place every object on a free path; return None if an object finds no free path."""
    placed: dict[int, WorldObject] = {}
    paths: dict[int, _Path] = {}
    order = sorted(range(len(plan.appearances)), key=lambda index: (index != plan.screen, index != plan.passer, index))
    twin_radius, twin_angle = draw_radius(rng, plan.appearances[0].size), float(rng.uniform(-0.2, 0.2))
    for index in order:
        appearance = plan.appearances[index]
        radius, angle = draw_radius(rng, appearance.size), float(rng.uniform(-0.2, 0.2))
        if plan.twins and index < 2:
            radius, angle = twin_radius, twin_angle
        for _ in range(_PLACE_TRIES):
            screen = placed[plan.screen] if plan.screen is not None and index == plan.passer else None
            place = _draw_motion(rng, plan.kinds[index], radius, screen)
            if place is None:
                continue
            x, y, motion = place
            item = WorldObject(
                shape=appearance.shape, color=appearance.color, size=appearance.size, texture=appearance.texture,
                x=x, y=y, radius=radius, angle=angle, motion=motion,
            )  # fmt: skip
            path = _to_path(item)
            free = all(path.clear_of(other) for k, other in paths.items() if screen is None or k != plan.screen)
            if free and (screen is None or _hides(screen, item)):
                placed[index], paths[index] = item, path
                break
        else:
            return None
    return [placed[index] for index in range(len(plan.appearances))]


def _to_path(item: WorldObject) -> _Path:
    progress = np.array([item.motion.progress(u) for u in _MOMENTS])
    xy = np.array([item.x, item.y]) + progress[:, None] * (item.motion.dx, item.motion.dy)
    return _Path(xy, item.radius * item.motion.scale**progress)


def _draw_motion(
    rng: np.random.Generator, kind: str, radius: float, screen: WorldObject | None
) -> tuple[float, float, Motion] | None:
    """Sample a start (x, y) and a motion of one kind, or return None if the path leaves the image."""
    if kind in ("stays still", "blinks", "grows", "shrinks"):
        factor = float(rng.uniform(1.62, 1.8)) ** {"grows": 1, "shrinks": -1}.get(kind, 0)
        border = radius * max(1.0, factor) + _MARGIN
        x, y = (float(v) for v in rng.uniform(border, 1 - border, 2))
        if kind == "stays still":
            return x, y, STILL
        return x, y, Motion(kind=kind, scale=factor, off=_draw_off(rng) if kind == "blinks" else ())
    way = kind.removeprefix("moves ") if kind.startswith("moves") else pick(rng, tuple(_STEPS))
    step_x, step_y = _STEPS[way]
    start, end, length = 0.0, 1.0, float(rng.uniform(0.34, 0.6))
    border = radius + _MARGIN
    across = float(rng.uniform(border, 1 - border))  # coordinate perpendicular to the motion
    if kind == "enters" or kind == "leaves":
        span = float(rng.uniform(0.34, 0.4))
        length = float(rng.uniform(max(0.4, 3.2 * radius), 0.75))
        start, end = (0.0, span) if kind == "enters" else (1.0 - span, 1.0)
        begin = -_REACH * radius - 0.004 if kind == "enters" else 1 + _REACH * radius + 0.004 - length
    elif kind == "passes behind":
        assert screen is not None
        middle, other = (screen.x, screen.y) if step_x else (screen.y, screen.x)
        length = float(rng.uniform(0.62, 0.8))
        across = other + float(rng.uniform(-0.02, 0.02))
        middle = middle if step_x + step_y > 0 else 1 - middle
        begin = middle - length / 2 + float(rng.uniform(-0.04, 0.04))
    else:
        end = 0.5 if kind == "stops" else 1.0
        begin = float(rng.uniform(border, max(border, 1 - border - length)))
    inner = [begin] * (kind != "enters") + [begin + length] * (kind != "leaves")
    if not all(border <= place <= 1 - border for place in (*inner, across)):
        return None
    along = begin if step_x + step_y > 0 else 1 - begin
    x, y = (along, across) if step_x else (across, along)
    return x, y, Motion(kind=kind, dx=step_x * length, dy=step_y * length, start=start, end=end)


def _draw_off(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Sample the two spans in which a blinking object is off; 4 or 5 uniformly spaced frames hit both spans."""
    edges = np.array([0.20, 0.42, 0.60, 0.80]) + rng.uniform(-0.02, 0.02, 4)
    return (float(edges[0]), float(edges[1])), (float(edges[2]), float(edges[3]))


def _hides(screen: WorldObject, item: WorldObject) -> bool:
    """Tell whether a convex object fully hides the moving one for 2 to 5 of 16 frames, excluding the ends."""
    corners = place_outline(screen.shape, screen.x, screen.y, screen.radius, screen.angle)[0]
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.hypot(*edges.T)[:, None]  # outwards: y is down
    body = place_outline(item.shape, item.x, item.y, item.radius, item.angle)[0]
    surely = maybe = 0  # frames hidden at any resolution, and frames that may look hidden in a small image
    for frame in range(16):
        points = body + item.motion.shift_at(frame / 15)
        outside = ((points[:, None] - corners[None]) * normals[None]).sum(-1).max()  # largest over (K, E)
        surely += bool(outside <= -0.005)
        maybe += bool(outside <= 0.01)
    ends = [np.hypot(*np.subtract((s.x, s.y), (screen.x, screen.y))) for s in (item.state(0.0), item.state(1.0))]
    return surely >= 2 and maybe <= 5 and min(ends) >= 0.98 * (screen.radius + item.radius)


def _stack(rng: np.random.Generator, objects: list[WorldObject], plan: _Plan) -> list[WorldObject]:
    """Return the objects in a random depth order, back to front, with the screen in front of the passer."""
    order = [int(index) for index in rng.permutation(len(objects))]
    if plan.screen is not None and plan.passer is not None:
        front, back = order.index(plan.screen), order.index(plan.passer)
        if front < back:
            order[front], order[back] = order[back], order[front]
    return [objects[index] for index in order]
