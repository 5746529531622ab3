"""Sample object appearances that share attributes, so that expressions need to be specific.

Flow: sampling.py, choreography.py -> draw_appearances -> one Appearance per object.
Shapes: N objects.
"""

from dataclasses import dataclass, replace

import numpy as np

from sa2va.world.scenes.scene import COLORS, RADII, SHAPES, SIZES, TEXTURES
from sa2va.world.scenes.splits import SEEN_PAIRS, Pairs

_FROM_PALETTE = 0.6  # probability that a color or shape comes from the scene's small palette
_COMPANY = 0.65  # probability that an object without shared attributes gets another's color or shape
_DOUBLE = 0.3  # probability that an object repeats another's color, shape and size
_SIZE_ODDS = np.array([0.36, 0.40, 0.24])


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """The appearance of an object."""

    color: str
    shape: str
    size: str
    texture: str

    @property
    def pair(self) -> tuple[str, str]:
        """Return (color, shape)."""
        return self.color, self.shape


def pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """Sample one of the options uniformly."""
    return options[int(rng.integers(len(options)))]


def draw_radius(rng: np.random.Generator, size: str) -> float:
    """Sample a radius of a size class, fraction of the side."""
    return float(rng.uniform(*RADII[size]))


def draw_size(rng: np.random.Generator) -> str:
    """Sample a size class."""
    return SIZES[int(rng.choice(3, p=_SIZE_ODDS))]


def draw_texture(rng: np.random.Generator) -> str:
    """Sample a texture; plain has twice the probability of the others."""
    return TEXTURES[max(0, int(rng.integers(-1, len(TEXTURES))))]


def _shares(appearance: Appearance, other: Appearance) -> bool:
    return appearance.color == other.color or appearance.shape == other.shape


def _draw_pair(
    rng: np.random.Generator, colors: list[str], shapes: list[str], pairs: tuple[tuple[str, str], ...]
) -> tuple[str, str]:
    """Sample a (color, shape) pair, preferring colors and shapes of the scene's small palette."""
    color = pick(rng, colors) if rng.random() < _FROM_PALETTE else None
    shape = pick(rng, shapes) if rng.random() < _FROM_PALETTE else None
    fitting = [pair for pair in pairs if color in (None, pair[0]) and shape in (None, pair[1])]
    return (fitting or pairs)[int(rng.integers(len(fitting or pairs)))]


def _give_company(
    rng: np.random.Generator, appearances: list[Appearance], index: int, pairs: tuple[tuple[str, str], ...]
) -> Appearance:
    """Change an object's color or shape to that of another object."""
    appearance = appearances[index]
    friend = appearances[(index + 1 + int(rng.integers(len(appearances) - 1))) % len(appearances)]
    options = [
        pair
        for pair in ((appearance.color, friend.shape), (friend.color, appearance.shape))
        if pair in pairs and pair != friend.pair
    ]
    if not options:
        return appearance
    color, shape = options[int(rng.integers(len(options)))]
    return replace(appearance, color=color, shape=shape)


def draw_appearances(rng: np.random.Generator, num_objects: int, *, held_out: Pairs) -> list[Appearance]:
    """Sample the appearances of a scene.

    Args:
        rng: Random generator.
        num_objects: N.
        held_out: Held-out pairs, at least one of which occurs; empty = none occurs.

    Returns:
        N appearances in random order.
    """
    pairs, unseen = tuple(sorted(SEEN_PAIRS | held_out)), tuple(sorted(held_out))
    colors = [pick(rng, tuple(COLORS)) for _ in range(int(rng.integers(1, 4)))]
    shapes = [pick(rng, SHAPES) for _ in range(int(rng.integers(1, 4)))]
    appearances = []
    for index in range(num_objects):
        color, shape = _draw_pair(rng, colors, shapes, unseen if unseen and index == 0 else pairs)
        appearances.append(Appearance(color=color, shape=shape, size=draw_size(rng), texture=draw_texture(rng)))
    for index in range(1, num_objects):
        alone = not any(_shares(appearances[index], other) for other in appearances[:index] + appearances[index + 1 :])
        if alone and rng.random() < _COMPANY:
            appearances[index] = _give_company(rng, appearances, index, pairs)
    if rng.random() < _DOUBLE:
        for _ in range(int(rng.integers(1, max(2, num_objects // 2)))):
            index = int(rng.integers(1, num_objects))
            texture = appearances[index].texture
            source = appearances[(index + 1 + int(rng.integers(num_objects - 1))) % num_objects]
            appearances[index] = replace(source, texture=source.texture if rng.random() < 0.5 else texture)
    return [appearances[i] for i in rng.permutation(num_objects)]
