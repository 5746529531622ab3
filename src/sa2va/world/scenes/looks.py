"""Choose what the objects of a scene look like, confusable on purpose.

Flow: sampling.py, choreography.py -> draw_looks -> one Look per object.
Shapes: N objects.
"""

from dataclasses import dataclass, replace

import numpy as np

from sa2va.world.scenes.scene import COLORS, RADII, SHAPES, SIZES, TEXTURES
from sa2va.world.scenes.splits import SEEN_PAIRS, Pairs

_FROM_PALETTE = 0.6  # how often a colour or a shape comes from the scene's own few
_COMPANY = 0.65  # how often an object that shares nothing is given the colour or the shape of another one
_DOUBLE = 0.3  # how often one object repeats colour, shape and size of another one
_SIZE_ODDS = np.array([0.36, 0.40, 0.24])


@dataclass(frozen=True, kw_only=True)
class Look:
    """How an object looks, wherever it is."""

    color: str
    shape: str
    size: str
    texture: str

    @property
    def pair(self) -> tuple[str, str]:
        """Return (color, shape)."""
        return self.color, self.shape


def pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def draw_radius(rng: np.random.Generator, size: str) -> float:
    """Return a radius of a size class, fraction of the side."""
    return float(rng.uniform(*RADII[size]))


def draw_size(rng: np.random.Generator) -> str:
    """Return a size class."""
    return SIZES[int(rng.choice(3, p=_SIZE_ODDS))]


def draw_texture(rng: np.random.Generator) -> str:
    """Return a texture; plain ones are a little more common."""
    return TEXTURES[max(0, int(rng.integers(-1, len(TEXTURES))))]


def _shares(look: Look, other: Look) -> bool:
    return look.color == other.color or look.shape == other.shape


def _draw_pair(
    rng: np.random.Generator, colors: list[str], shapes: list[str], pairs: tuple[tuple[str, str], ...]
) -> tuple[str, str]:
    """Return a pair out of `pairs`, mostly with a colour and a shape of the scene's own palette."""
    color = pick(rng, colors) if rng.random() < _FROM_PALETTE else None
    shape = pick(rng, shapes) if rng.random() < _FROM_PALETTE else None
    fitting = [pair for pair in pairs if color in (None, pair[0]) and shape in (None, pair[1])]
    return (fitting or pairs)[int(rng.integers(len(fitting or pairs)))]


def _give_company(rng: np.random.Generator, looks: list[Look], index: int, pairs: tuple[tuple[str, str], ...]) -> Look:
    """Return the look of a lone object, changed to share its colour or its shape with another object."""
    look = looks[index]
    friend = looks[(index + 1 + int(rng.integers(len(looks) - 1))) % len(looks)]
    options = [
        pair
        for pair in ((look.color, friend.shape), (friend.color, look.shape))
        if pair in pairs and pair != friend.pair
    ]
    if not options:
        return look
    color, shape = options[int(rng.integers(len(options)))]
    return replace(look, color=color, shape=shape)


def draw_looks(rng: np.random.Generator, num_objects: int, *, held_out: Pairs) -> list[Look]:
    """Choose the looks of a scene.

    Args:
        rng: source of chance.
        num_objects: N.
        held_out: pairs that training never shows; at least one object has one of them. Empty: none has.

    Returns:
        N looks in random order.
    """
    pairs, unseen = tuple(sorted(SEEN_PAIRS | held_out)), tuple(sorted(held_out))
    colors = [pick(rng, tuple(COLORS)) for _ in range(int(rng.integers(1, 4)))]
    shapes = [pick(rng, SHAPES) for _ in range(int(rng.integers(1, 4)))]
    looks = []
    for index in range(num_objects):
        color, shape = _draw_pair(rng, colors, shapes, unseen if unseen and index == 0 else pairs)
        looks.append(Look(color=color, shape=shape, size=draw_size(rng), texture=draw_texture(rng)))
    for index in range(1, num_objects):
        alone = not any(_shares(looks[index], other) for other in looks[:index] + looks[index + 1 :])
        if alone and rng.random() < _COMPANY:
            looks[index] = _give_company(rng, looks, index, pairs)
    if rng.random() < _DOUBLE:
        for _ in range(int(rng.integers(1, max(2, num_objects // 2)))):
            index = int(rng.integers(1, num_objects))
            texture = looks[index].texture
            source = looks[(index + 1 + int(rng.integers(num_objects - 1))) % num_objects]
            looks[index] = replace(source, texture=source.texture if rng.random() < 0.5 else texture)
    return [looks[i] for i in rng.permutation(num_objects)]
