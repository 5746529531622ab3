"""Draw long clips: objects that wander, change places with each other, leave the picture and come back.

Flow: (seed, index, T) -> make_tour -> Scene of Walkers -> Scene.stream, frame by frame -> evaluation/long.py.
    Time is cut into beats. In each beat an object stays, wanders, leaves, is away or comes back, or two objects
    change places and cross on their way.
Shapes: N objects, T frames; places and lengths are fractions of the side, y down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from sa2va.world.scenes.looks import Look, draw_looks, draw_radius, pick
from sa2va.world.scenes.scene import BACKGROUNDS, ObjectState, Scene, WorldObject

FRAMES = 500  # T of a long clip
BEAT = 25  # frames; a walk takes one beat, as fast as in a short clip
MIN_BEATS = 6
_EVENTS_EVERY = 8  # beats in which there is at least one crossing and one leave with a return
_SWAP, _LEAVE, _RETURN, _WANDER = 0.35, 0.5, 0.6, 0.5  # chances in a beat
_BESIDE = 1.3  # how far outside an object that is away waits, in radii from the border
_MARGIN = 0.012  # kept free at the border of the picture
_GAP = 1.15  # least distance of two places over the sum of the radii
_TRIES = 60


Place = tuple[float, float]  # (x, y)


@dataclass(frozen=True, kw_only=True)
class Walker(WorldObject):
    """An object that goes straight and at constant speed in each beat; outside the picture it may jump."""

    legs: tuple[tuple[Place, Place], ...]  # from where to where, one per beat

    def state(self, u: float) -> ObjectState:
        beat = min(int(u * len(self.legs)), len(self.legs) - 1)
        (x0, y0), (x1, y1), share = *self.legs[beat], u * len(self.legs) - beat
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        reach = 1.15 * self.radius  # corners of a turned shape stick out of the radius
        inside = -reach < x < 1 + reach and -reach < y < 1 + reach
        return ObjectState(x=x, y=y, radius=self.radius, visible=inside)


@dataclass
class _Walk:
    """Where all objects are, how they came there, and what has happened."""

    radii: Sequence[float]
    places: list[Place]
    legs: list[list[tuple[Place, Place]]]  # of each object, one per beat
    away: dict[int, int] = field(default_factory=dict)  # object -> beats it has been away
    num_swaps: int = 0
    num_returns: int = 0


def make_tour(seed: int, index: int, num_frames: int = FRAMES) -> Scene:
    """Return one long clip, always the same one for the same arguments.

    Every object is in the picture and apart from the others at the start, and no two share colour and shape.

    Args:
        seed: of the whole world, >= 0.
        index: which clip, >= 0.
        num_frames: T that it will be drawn with, at least MIN_BEATS * BEAT.

    Returns:
        3 or 4 objects. In every _EVENTS_EVERY beats at least one pair crosses, and one object leaves and returns.

    Raises:
        ValueError: a number is too small.
    """
    num_beats = num_frames // BEAT
    if seed < 0 or index < 0 or num_beats < MIN_BEATS:
        raise ValueError(
            f"make_tour: seed {seed}, index {index}, {num_frames} frames; expected seed and index of at least 0 and "
            f"at least {MIN_BEATS * BEAT} frames"
        )
    rng = np.random.default_rng([seed, crc32(b"tour"), index])
    looks = _draw_looks(rng, int(rng.integers(3, 5)))
    radii = [draw_radius(rng, look.size) for look in looks]
    events = max(1, num_beats // _EVENTS_EVERY)
    walk = _walk(rng, radii, num_beats)
    while walk is None or min(walk.num_swaps, walk.num_returns) < events:
        walk = _walk(rng, radii, num_beats)
    walkers = [
        Walker(
            shape=look.shape, color=look.color, size=look.size, texture=look.texture,
            x=legs[0][0][0], y=legs[0][0][1], radius=radius, angle=float(rng.uniform(-0.2, 0.2)), legs=tuple(legs),
        )
        for look, radius, legs in zip(looks, radii, walk.legs, strict=True)
    ]  # fmt: skip
    return Scene(objects=tuple(walkers), background=pick(rng, BACKGROUNDS), seed=int(rng.integers(2**31)))


def name_walkers(scene: Scene) -> list[str]:
    """Return an expression for each object that no other one of its tour fits: "the red circle"."""
    return [f"the {item.color} {item.shape}" for item in scene.objects]


def _draw_looks(rng: np.random.Generator, number: int) -> list[Look]:
    while True:
        looks = draw_looks(rng, number, held_out=frozenset())
        if len({look.pair for look in looks}) == number and sum(look.size == "large" for look in looks) <= 1:
            return looks


def _walk(rng: np.random.Generator, radii: Sequence[float], num_beats: int) -> _Walk | None:
    """Choose all places, or return None where the first ones find no room."""
    places: dict[int, Place] = {}
    for index in range(len(radii)):
        place = _free_place(rng, radii, index, places)
        if place is None:
            return None
        places[index] = place
    walk = _Walk(radii, list(places.values()), [[] for _ in radii])
    for _ in range(num_beats):
        _go_on(rng, walk)
    return walk


def _go_on(rng: np.random.Generator, walk: _Walk) -> None:
    """Let one beat go by."""
    before, after = list(walk.places), dict(enumerate(walk.places))
    free = [index for index in after if index not in walk.away]
    if len(free) > 1 and rng.random() < _SWAP:
        one, other = (int(index) for index in rng.choice(free, 2, replace=False))
        after[one], after[other] = _inside(before[other], walk.radii[one]), _inside(before[one], walk.radii[other])
        walk.num_swaps += 1
        free = [index for index in free if index not in (one, other)]
    for index in list(walk.away):
        walk.away[index] += 1
        place = _free_place(rng, walk.radii, index, after) if rng.random() < _RETURN else None
        if walk.away[index] > 1 and place is not None:
            before[index], after[index] = _beside(rng, walk.radii[index]), place  # on any side: nobody sees the jump
            del walk.away[index]
            walk.num_returns += 1
    if len(free) > 1 and not walk.away and rng.random() < _LEAVE:
        index = int(rng.choice(free))
        after[index] = _beside(rng, walk.radii[index])
        walk.away[index] = 0
        free.remove(index)
    for index in free:
        place = _free_place(rng, walk.radii, index, after) if rng.random() < _WANDER else None
        after[index] = place or after[index]
    for index, legs in enumerate(walk.legs):
        legs.append((before[index], after[index]))
    walk.places = [after[index] for index in range(len(after))]


def _free_place(
    rng: np.random.Generator, radii: Sequence[float], index: int, others: Mapping[int, Place]
) -> Place | None:
    """Choose a place inside the picture apart from where others end, or None where there is none."""
    border = radii[index] + _MARGIN
    for _ in range(_TRIES):
        x, y = (float(value) for value in rng.uniform(border, 1 - border, 2))
        taken = ((place, radii[index] + radii[key]) for key, place in others.items() if key != index)
        if all(np.hypot(x - place[0], y - place[1]) >= _GAP * reach for place, reach in taken):
            return x, y
    return None


def _inside(place: Place, radius: float) -> Place:
    """Move a place so far inside that an object of this radius is wholly in the picture."""
    border = radius + _MARGIN
    return min(max(place[0], border), 1 - border), min(max(place[1], border), 1 - border)


def _beside(rng: np.random.Generator, radius: float) -> Place:
    """Choose a place wholly outside the picture, on one of its four sides."""
    along = float(rng.uniform(0.15, 0.85))
    out = -_BESIDE * radius if rng.random() < 0.5 else 1 + _BESIDE * radius
    return (out, along) if rng.random() < 0.5 else (along, out)
