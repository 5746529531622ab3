"""Recolor pictures, so that a shape is learned for itself and not with the colors it comes in.

Flow: rendered scenes (encoders.py) -> recolor -> pixels whose colors have no name.
Source: our own choice of map; training on pictures in other colors is common (color jitter, SimCLR,
    arXiv:2002.05709). Training never shows one pair of color and shape in ten, and a tower that has seen every
    circle but purple ones calls a purple circle something else.
"""

import numpy as np
from numpy.typing import NDArray

from sa2va.types import Frames
from sa2va.world.scenes.scene import COLORS, Scene
from sa2va.world.scenes.splits import UNSEEN_PAIRS

_ATTEMPTS = 8
_GAIN, _SHIFT = (0.6, 1.1), (-30.0, 30.0)  # of a channel around its middle
_NAMES = list(COLORS)
_PALETTE = np.array(list(COLORS.values()), float)  # (10, 3)


def recolor(frames: Frames, scene: Scene, rng: np.random.Generator) -> Frames | None:
    """Exchange the color channels of a picture, invert and scale them: edges stay, hues change.

    Args:
        frames: uint8 (T, H, W, 3) of the scene.
        scene: whose objects must not come to look like a pair that training never shows.
        rng: where the map comes from.

    Returns:
        The recolored frames, or None where every map that was tried shows such a pair.
    """
    for _ in range(_ATTEMPTS):
        order, table = rng.permutation(3), _draw_table(rng)
        looks = [(_nearest(_map(np.array(COLORS[thing.color]), order, table)), thing.shape) for thing in scene.objects]
        if UNSEEN_PAIRS.isdisjoint(looks):
            return _map(frames, order, table)
    return None


def _draw_table(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw what each value of each channel becomes: (3, 256)."""
    slope = rng.uniform(*_GAIN, (3, 1)) * rng.choice([-1, 1], (3, 1))
    values = 127.5 + slope * (np.arange(256) - 127.5) + rng.uniform(*_SHIFT, (3, 1))
    return values.clip(0, 255).astype(np.uint8)


def _map(colors: NDArray[np.integer], order: NDArray[np.int64], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take each channel from another one and look its values up in the table: integers 0..255 (..., 3)."""
    return np.stack([table[k][colors[..., channel]] for k, channel in enumerate(order)], axis=-1)


def _nearest(color: NDArray[np.uint8]) -> str:
    """Name the color of the world that a recolored one (3,) is nearest to."""
    return _NAMES[int(((_PALETTE - color) ** 2).sum(1).argmin())]
