"""Render synthetic scenes to tensors for pretraining.

Flow: world/scenes -> SceneBatch (frames, masks, attributes) -> encoders.py, mask_decoder.py, memory.py.
Shapes: B scenes, T frames, N objects of all scenes, S side of the picture in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va.types import Frames
from sa2va.world.scenes.scene import BACKGROUNDS, COLORS, SHAPES, SIZES, TEXTURES, Scene, WorldObject

ATTRIBUTE_SIZES = (len(COLORS), len(SHAPES), len(SIZES), len(TEXTURES))  # number of values of each attribute
NUM_BACKGROUNDS = len(BACKGROUNDS)
_COLOR_INDEX = {name: index for index, name in enumerate(COLORS)}


@dataclass(frozen=True)
class SceneBatch:
    """Frames of B scenes and the ground truth of their N objects."""

    frames: Frames  # (B*T, S, S, 3)
    scene_index: Tensor  # (N,) scene index of each object
    attributes: Tensor  # (N, 4) color, shape, size, texture
    masks: Tensor  # (N, T, S, S) bool, visible pixels
    boxes: Tensor  # (N, T, 4) center x, y, width, height of the visible part, 0..1; zeros if invisible
    backgrounds: Tensor  # (B,)


def attribute_ids(thing: WorldObject) -> tuple[int, int, int, int]:
    """Return the indices of an object's color, shape, size and texture."""
    return (
        _COLOR_INDEX[thing.color],
        SHAPES.index(thing.shape),
        SIZES.index(thing.size),
        TEXTURES.index(thing.texture),
    )


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the box of each mask: bool (..., S, S) -> float (..., 4) center x, y, width, height in 0..1."""
    side = masks.shape[-1]
    edges = []
    for profile in (masks.any(-2), masks.any(-1)):  # columns, then rows
        first = profile.float().argmax(-1)
        last = side - profile.flip(-1).float().argmax(-1)
        edges.append((first / side, last / side))
    (x0, x1), (y0, y1) = edges
    boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)
    return boxes * masks.flatten(-2).any(-1)[..., None]


def rank_objects(masks: Tensor) -> NDArray[np.int64]:
    """Rank objects by their value for training a tracker: (N, T, H, W) -> 2 reappears, 1 changes, 0 static."""
    visible = masks.flatten(2).any(2)
    returns = (~visible[:, :-1] & visible[:, 1:]).any(1)
    changes = (masks[:, 0] ^ masks[:, -1]).flatten(1).any(1)
    return torch.where(returns, 2, changes.long()).numpy()


def render_scene(scene: Scene, num_frames: int = 1, chosen: Sequence[int] | None = None) -> SceneBatch:
    """Render one scene, B = 1.

    Args:
        scene: scene of N objects.
        num_frames: number of frames of the clip.
        chosen: indices of the T frames to keep; None = all.
    """
    rendering = scene.render(num_frames=num_frames, chosen=chosen)
    masks = torch.from_numpy(rendering.masks)
    return SceneBatch(
        frames=rendering.frames,
        scene_index=torch.zeros(len(scene.objects), dtype=torch.long),
        attributes=torch.tensor([attribute_ids(thing) for thing in scene.objects]),
        masks=masks,
        boxes=mask_boxes(masks),
        backgrounds=torch.tensor([BACKGROUNDS.index(scene.background)]),
    )


def join_scenes(scenes: Sequence[SceneBatch]) -> SceneBatch:
    """Concatenate scenes that were rendered one by one."""
    owners = [torch.full_like(scene.scene_index, index) for index, scene in enumerate(scenes)]
    return SceneBatch(
        frames=np.concatenate([scene.frames for scene in scenes]),
        scene_index=torch.cat(owners),
        attributes=torch.cat([scene.attributes for scene in scenes]),
        masks=torch.cat([scene.masks for scene in scenes]),
        boxes=torch.cat([scene.boxes for scene in scenes]),
        backgrounds=torch.cat([scene.backgrounds for scene in scenes]),
    )
