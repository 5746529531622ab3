"""Repaint pictures in other colours, so that a shape is learnt for itself and not with the colours it comes in.

Flow: rendered scenes (vision.py) -> repaint -> pixels whose colours have no name.
Source: our own choice of map; training on pictures in other colours is common (colour jitter, SimCLR,
    arXiv:2002.05709). Training never shows one pair of colour and shape in ten, and a tower that has seen every
    circle but purple ones calls a purple circle something else.
"""

import numpy as np

from sa2va.data.world.scene import COLORS, HELD_OUT_PAIRS, Scene
from sa2va.types import Frames

_ATTEMPTS = 8
_NAMES = list(COLORS)
_TABLE = np.array(list(COLORS.values()), float)  # (10, 3)


def repaint(frames: Frames, scene: Scene, rng: np.random.Generator) -> Frames | None:
    """Exchange the colour channels of a picture and invert some of them: edges stay, every hue changes.

    Args:
        frames: (T, H, W, 3) of the scene.
        scene: whose objects must not come to look like a pair that training never shows.
        rng: where the map comes from.

    Returns:
        The repainted frames, or None where every map that was tried shows such a pair.
    """
    for _ in range(_ATTEMPTS):
        order, inverted = rng.permutation(3), rng.random(3) < 0.5
        if all(
            (_nearest(np.array(COLORS[thing.color])[order], inverted), thing.shape) not in HELD_OUT_PAIRS
            for thing in scene.objects
        ):
            return _map(frames[..., order], inverted)
    return None


def _map(channels: Frames, inverted: np.ndarray) -> Frames:
    """Invert the channels that are to be inverted; 255 - x is x XOR 255."""
    return channels ^ np.where(inverted, 255, 0).astype(np.uint8)


def _nearest(color: np.ndarray, inverted: np.ndarray) -> str:
    """Name the colour of the world that a repainted one is nearest to."""
    painted = np.where(inverted, 255 - color, color)
    return _NAMES[int(((_TABLE - painted) ** 2).sum(1).argmin())]
