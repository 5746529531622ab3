"""Draw the scene and the random numbers of one item of one task.

Flow: (task, seed, split, index) -> draw_item -> Scene and generator -> tasks.py, referring.py -> Sample.
Shapes: T frames, S side of the picture in px.
"""

from collections.abc import Iterable
from zlib import crc32

import numpy as np

from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Rendering, Scene
from sa2va.world.scenes.splits import UNSEEN_PAIRS

SIDE = 256  # S, px
CLIP_FRAMES = 16  # T of a clip
# Append only: the place of a task decides which scenes it draws, and no two tasks draw the same.
TASK_ORDER = (
    "caption",
    "conversation",
    "refseg",
    "gcg",
    "region",
    "video_caption",
    "video_conversation",
    "video_refseg",
)
_STRIDE = 16  # tasks at most
_RETRY = 1_000_003  # added to the seed for another scene of the same item


def is_clip(task: str) -> bool:
    """Tell whether the samples of a task are clips."""
    return task.startswith("video")


def draw_item(
    task: str, seed: int, split: str, index: int, *, require_heldout: bool = False, attempt: int = 0
) -> tuple[Scene, np.random.Generator]:
    """Make the scene of one item and the generator of everything else about it.

    Args:
        task: one of TASK_ORDER.
        seed: of the whole world.
        split: "train" shows no pair that is held out; any other name does in some scenes.
        index: item of the split.
        require_heldout: the scene has an object with a held-out pair.
        attempt: which scene of this item; later ones serve where the first offers too little to ask about.

    Returns:
        The scene and a fresh generator.
    """
    number = index * _STRIDE + TASK_ORDER.index(task)
    world = seed + attempt * _RETRY
    scene = make_scene(world, split, number, moving=is_clip(task), require_heldout=require_heldout)
    return scene, np.random.default_rng([world, index, crc32(f"{task}/{split}".encode())])


def render_item(scene: Scene, task: str) -> Rendering:
    """Draw an item at the size and length of its task."""
    return scene.render(SIDE, CLIP_FRAMES if is_clip(task) else 1)


def is_heldout(scene: Scene, objects: Iterable[int]) -> bool:
    """Tell whether any of these objects has a pair of colour and shape that training never shows."""
    return any(scene.objects[index].pair in UNSEEN_PAIRS for index in objects)
