"""Recolor pictures as augmentation, so that shapes are learned independently of colors.

Flow: rendered scenes (encoders.py) -> recolor -> pixels in colors outside the vocabulary.
Source: color jitter is common (SimCLR, arXiv:2002.05709); this map is our own. One color-shape pair in ten is held out
    of training. Without recoloring, a vision tower trained on circles of all other colors misclassifies purple circles.
"""

import numpy as np
from numpy.typing import NDArray

from sa2va.types import Frames
from sa2va.world.scenes.scene import COLORS, Scene
from sa2va.world.scenes.splits import UNSEEN_PAIRS

_ATTEMPTS = 8
_GAIN, _SHIFT = (0.6, 1.1), (-30.0, 30.0)  # ranges of the slope and offset of a channel, around 127.5
_NAMES = list(COLORS)
_PALETTE = np.array(list(COLORS.values()), float)  # (10, 3)


def recolor(frames: Frames, scene: Scene, rng: np.random.Generator) -> Frames | None:
    """Permute, invert and scale the color channels of a picture: edges stay, hues change.

    Args:
        frames: uint8 (T, H, W, 3) of the scene.
        scene: gives the objects, which must not look like a held-out color-shape pair after recoloring.
        rng: generator of the map.

    Returns:
        The recolored frames, or None if every tried map shows such a pair.
    """
    for _ in range(_ATTEMPTS):
        order, table = rng.permutation(3), _draw_table(rng)
        looks = [(_nearest(_map(np.array(COLORS[thing.color]), order, table)), thing.shape) for thing in scene.objects]
        if UNSEEN_PAIRS.isdisjoint(looks):
            return _map(frames, order, table)
    return None


def _draw_table(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sample a lookup table of the values of each channel: (3, 256)."""
    slope = rng.uniform(*_GAIN, (3, 1)) * rng.choice([-1, 1], (3, 1))
    values = 127.5 + slope * (np.arange(256) - 127.5) + rng.uniform(*_SHIFT, (3, 1))
    return values.clip(0, 255).astype(np.uint8)


def _map(colors: NDArray[np.integer], order: NDArray[np.int64], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Permute the channels and apply the lookup table: integers 0..255 (..., 3)."""
    return np.stack([table[k][colors[..., channel]] for k, channel in enumerate(order)], axis=-1)


def _nearest(color: NDArray[np.uint8]) -> str:
    """Return the name of the vocabulary color nearest to a recolored one (3,)."""
    return _NAMES[int(((_PALETTE - color) ** 2).sum(1).argmin())]
