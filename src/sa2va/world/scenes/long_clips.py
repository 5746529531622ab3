"""Generate long clips in which objects wander, cross, leave the image and return.

Flow: (seed, index, T) -> make_long_clip -> Scene of Walkers -> Scene.stream, frame by frame -> benchmarks/long.py.
    Time is divided into beats. In each beat an object stays, wanders, leaves, is away or returns, or two objects swap
    places and cross on their way.
Shapes: N objects, T frames; places and lengths are fractions of the side, y down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from sa2va.world.scenes.appearance import Appearance, draw_appearances, draw_radius, pick
from sa2va.world.scenes.scene import BACKGROUNDS, ObjectState, Scene, WorldObject

FRAMES = 500  # T of a long clip
BEAT = 25  # frames of one straight walk, at the speed of a short clip
MIN_BEATS = 6
_EVENTS_EVERY = 8  # beats per required crossing, and per required return
_SWAP, _LEAVE, _RETURN, _WANDER = 0.35, 0.5, 0.6, 0.5  # probabilities per beat
_BESIDE = 1.3  # distance of an absent object from the border, in radii
_MARGIN = 0.012  # free border of the image
_GAP = 1.15  # minimum distance of two places over the sum of the radii
_TRIES = 60


Place = tuple[float, float]  # (x, y)


@dataclass(frozen=True, kw_only=True)
class Walker(WorldObject):
    """An object with piecewise linear motion, one segment per beat; it may jump while outside the image."""

    legs: tuple[tuple[Place, Place], ...]  # start and end, one per beat

    def state(self, u: float) -> ObjectState:
        beat = min(int(u * len(self.legs)), len(self.legs) - 1)
        (x0, y0), (x1, y1), share = *self.legs[beat], u * len(self.legs) - beat
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        reach = 1.15 * self.radius  # corners of a rotated shape exceed the radius
        inside = -reach < x < 1 + reach and -reach < y < 1 + reach
        return ObjectState(x=x, y=y, radius=self.radius, visible=inside)


@dataclass
class _Walk:
    """Positions and paths of all objects while a clip is generated."""

    radii: Sequence[float]
    places: list[Place]
    legs: list[list[tuple[Place, Place]]]  # of each object, one per beat
    away: dict[int, int] = field(default_factory=dict)  # object -> beats since it left
    num_swaps: int = 0
    num_returns: int = 0


def make_long_clip(seed: int, index: int, num_frames: int = FRAMES, *, split: str = "") -> Scene:
    """Generate one long clip, deterministically.

    At the start all objects are visible and apart. No two share color and shape.

    Args:
        seed: Random seed of the scenes, >= 0.
        index: Index of the clip, >= 0.
        num_frames: T of the rendering, at least MIN_BEATS * BEAT.
        split: "" is that of the benchmark; clips of another name are never its clips, for any seed.

    Returns:
        A scene of 3 or 4 objects, with at least one crossing and one return per _EVENTS_EVERY beats on average.

    Raises:
        ValueError: a negative seed or index, or too few frames.
    """
    num_beats = num_frames // BEAT
    if seed < 0 or index < 0 or num_beats < MIN_BEATS:
        raise ValueError(
            f"make_long_clip: seed {seed}, index {index}, {num_frames} frames; "
            f"expected seed and index of at least 0, and at least {MIN_BEATS * BEAT} frames"
        )
    rng = np.random.default_rng([seed, crc32(b"tour" + split.encode()), index])
    appearances = _draw_appearances(rng, int(rng.integers(3, 5)))
    radii = [draw_radius(rng, appearance.size) for appearance in appearances]
    events = max(1, num_beats // _EVENTS_EVERY)
    walk = _walk(rng, radii, num_beats)
    while walk is None or min(walk.num_swaps, walk.num_returns) < events:
        walk = _walk(rng, radii, num_beats)
    walkers = [
        Walker(
            shape=appearance.shape, color=appearance.color, size=appearance.size, texture=appearance.texture,
            x=legs[0][0][0], y=legs[0][0][1], radius=radius, angle=float(rng.uniform(-0.2, 0.2)), legs=tuple(legs),
        )
        for appearance, radius, legs in zip(appearances, radii, walk.legs, strict=True)
    ]  # fmt: skip
    return Scene(objects=tuple(walkers), background=pick(rng, BACKGROUNDS), seed=int(rng.integers(2**31)))


def name_objects(scene: Scene) -> list[str]:
    """Write an unambiguous expression for each object: "the red circle"."""
    return [f"the {item.color} {item.shape}" for item in scene.objects]


@dataclass(frozen=True)
class Absence:
    """Frames around one absence of an object from a long clip of FRAMES frames."""

    since: int  # first frame of the visible time before it
    left: int  # first frame of the beat in which the object leaves
    back: int  # first frame of the beat in which it returns


def list_absences(scene: Scene) -> list[Absence]:
    """List the absences of all objects of a long clip that end before the clip does; `make_long_clip` ensures one."""
    absences = []
    for item in scene.objects:
        assert isinstance(item, Walker)
        since = left = 0
        for beat, (start, end) in enumerate(item.legs):
            if _is_inside(start) and not _is_inside(end):
                left = beat
            elif _is_inside(end) and not _is_inside(start):
                absences.append(Absence(since * BEAT, left * BEAT, beat * BEAT))
                since = beat + 1
    return absences


def _is_inside(place: Place) -> bool:
    return 0 <= min(place) and max(place) <= 1


def _draw_appearances(rng: np.random.Generator, number: int) -> list[Appearance]:
    while True:
        appearances = draw_appearances(rng, number, held_out=frozenset())
        if len({one.pair for one in appearances}) == number and sum(one.size == "large" for one in appearances) <= 1:
            return appearances


def _walk(rng: np.random.Generator, radii: Sequence[float], num_beats: int) -> _Walk | None:
    """Sample all paths, or return None if the objects do not fit at the start."""
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
    """Sample the segments of one beat."""
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
            before[index], after[index] = _beside(rng, walk.radii[index]), place  # may jump to any side, unseen
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
    """Sample a place inside the image, apart from the end places of the other objects; None if none is found."""
    border = radii[index] + _MARGIN
    for _ in range(_TRIES):
        x, y = (float(value) for value in rng.uniform(border, 1 - border, 2))
        taken = ((place, radii[index] + radii[key]) for key, place in others.items() if key != index)
        if all(np.hypot(x - place[0], y - place[1]) >= _GAP * reach for place, reach in taken):
            return x, y
    return None


def _inside(place: Place, radius: float) -> Place:
    """Clamp a place so that an object of this radius is fully inside the image."""
    border = radius + _MARGIN
    return min(max(place[0], border), 1 - border), min(max(place[1], border), 1 - border)


def _beside(rng: np.random.Generator, radius: float) -> Place:
    """Sample a place fully outside the image, on one of its four sides."""
    along = float(rng.uniform(0.15, 0.85))
    out = -_BESIDE * radius if rng.random() < 0.5 else 1 + _BESIDE * radius
    return (out, along) if rng.random() < 0.5 else (along, out)
