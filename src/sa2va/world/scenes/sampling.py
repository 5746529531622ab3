"""Sample scenes: item i of a split is a pure function of the seed, the split and i.

Flow: (seed, split, index) -> make_scene -> appearances, then places (choreography.draw_clip for clips) -> Scene.
Shapes: N objects; places and lengths are fractions of the side, y down.
"""

from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from sa2va.world.scenes.appearance import Appearance, draw_appearances, draw_radius, pick
from sa2va.world.scenes.choreography import draw_clip
from sa2va.world.scenes.paint import Coverage, coverage
from sa2va.world.scenes.scene import BACKGROUNDS, SIZES, Scene, WorldObject
from sa2va.world.scenes.splits import TRAIN, Pairs, unseen_pairs

_HELD_OUT_SCENES = 0.25  # share of scenes with a held-out pair, in splits other than training
_OCCLUDED_SCENES = 0.44
_HIDDEN = (0.10, 0.65)  # hidden share of a partly occluded object
_MIN_AREA = 0.0054  # minimum visible area of an object, share of the image; 0.5 % with a margin
_CHECK_SIZE = 128  # px, resolution of the occlusion test
_TRIES = 40


@dataclass(frozen=True)
class _Disk:
    """The circle occupied by an object."""

    x: float
    y: float
    radius: float

    def clear_of(self, others: list["_Disk"], spacing: float) -> bool:
        return all(
            (self.x - o.x) ** 2 + (self.y - o.y) ** 2 >= (spacing * (self.radius + o.radius)) ** 2 for o in others
        )


def make_scene(seed: int, split: str, index: int, *, moving: bool = False, require_heldout: bool = False) -> Scene:
    """Sample one scene, deterministically.

    Args:
        seed: Random seed of the scenes, >= 0.
        split: Any name; splits.unseen_pairs lists the pairs it may show besides those of training.
        index: Item of the split, >= 0.
        moving: Make a clip of 2 to 5 objects, 1 to 3 of them moving, instead of an image of 2 to 8 objects.
        require_heldout: At least one object has a held-out pair; otherwise a quarter of the scenes have one.

    Returns:
        The scene, ready to render.

    Raises:
        ValueError: a negative seed or index, or `require_heldout` in "train".
    """
    if seed < 0 or index < 0:
        raise ValueError(f"make_scene: seed {seed} and index {index} must not be negative")
    if split == TRAIN and require_heldout:
        raise ValueError(f'make_scene: split "{TRAIN}" has no held-out pairs; name another split')
    rng = np.random.default_rng([seed, crc32(split.encode()), index, int(moving), int(require_heldout)])
    is_unseen = require_heldout or (split != TRAIN and bool(rng.random() < _HELD_OUT_SCENES))
    held_out = unseen_pairs(split) if is_unseen else frozenset()
    objects = draw_clip(rng, held_out=held_out) if moving else _draw_still(rng, held_out)
    return Scene(objects=tuple(objects), background=pick(rng, BACKGROUNDS), seed=int(rng.integers(2**31)))


def _draw_still(rng: np.random.Generator, held_out: Pairs) -> list[WorldObject]:
    """Sample appearances and places of a still scene, shrinking objects until all fit."""
    num_objects = int(rng.integers(2, 9))
    appearances = draw_appearances(rng, num_objects, held_out=held_out)
    pairs: dict[int, int] = {}  # front object -> the back object it partly covers
    if rng.random() < _OCCLUDED_SCENES:
        order = rng.permutation(num_objects)
        for k in range(2 if num_objects >= 5 and rng.random() < 0.4 else 1):
            back, front = sorted((int(order[2 * k]), int(order[2 * k + 1])))
            pairs[front] = back
            if appearances[back].size == "small" and rng.random() < 0.7:
                appearances[back] = replace(appearances[back], size="medium")
    attempt = 0
    while True:
        objects = _try_places(rng, appearances, pairs, spacing=max(0.88, 1.08 - 0.02 * attempt))
        if objects is not None:
            return objects
        attempt += 1
        if attempt % 2 == 0:
            appearances = _shrink_one(appearances)
        if attempt == _TRIES:
            pairs = {}


def _shrink_one(appearances: list[Appearance]) -> list[Appearance]:
    """Shrink one of the largest objects by one size class, with all objects of its color, shape and size."""
    rank = max(SIZES.index(one.size) for one in appearances)
    if rank == 0:
        return appearances
    victim = next(one for one in appearances if SIZES.index(one.size) == rank)
    key = (victim.pair, victim.size)
    return [replace(one, size=SIZES[rank - 1]) if (one.pair, one.size) == key else one for one in appearances]


def _try_places(
    rng: np.random.Generator, appearances: list[Appearance], pairs: dict[int, int], spacing: float
) -> list[WorldObject] | None:
    """Place all objects, or return None if one does not fit."""
    disks: list[_Disk] = []
    objects: list[WorldObject] = []
    for index, appearance in enumerate(appearances):
        radius, angle = draw_radius(rng, appearance.size), float(rng.uniform(-0.2, 0.2))
        for _ in range(_TRIES):
            back = objects[pairs[index]] if index in pairs else None
            if back is None:
                x, y = rng.uniform(radius + 0.012, 1 - radius - 0.012, 2)
            else:
                turn, reach = rng.uniform(0, 2 * np.pi), (back.radius + radius) * rng.uniform(0.35, 0.95)
                x, y = back.x + reach * np.cos(turn), back.y + reach * np.sin(turn)
                if not (radius < x < 1 - radius and radius < y < 1 - radius):
                    continue
            disk = _Disk(float(x), float(y), radius)
            if not disk.clear_of([d for k, d in enumerate(disks) if pairs.get(index) != k], spacing):
                continue
            item = WorldObject(
                shape=appearance.shape, color=appearance.color, size=appearance.size, texture=appearance.texture,
                x=disk.x, y=disk.y, radius=radius, angle=angle,
            )  # fmt: skip
            if back is None or _covers_well(back, item):
                disks.append(disk)
                objects.append(item)
                break
        else:
            return None
    return objects


def _covers_well(back: WorldObject, front: WorldObject) -> bool:
    """Tell whether the front object hides a share of the back one within _HIDDEN and leaves _MIN_AREA visible."""
    behind = _coverage_of(back)
    before = _coverage_of(front)
    hiding = np.zeros((_CHECK_SIZE, _CHECK_SIZE), bool)
    hiding[before.box] = before.mask
    total = int(behind.mask.sum())
    hidden = int((behind.mask & hiding[behind.box]).sum())
    return _HIDDEN[0] <= hidden / total <= _HIDDEN[1] and total - hidden >= _MIN_AREA * _CHECK_SIZE**2


def _coverage_of(item: WorldObject) -> Coverage:
    covered = coverage(item.shape, item.x, item.y, item.radius, item.angle, _CHECK_SIZE)
    assert covered is not None
    return covered
