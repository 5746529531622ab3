"""Sample the scene and the random generator of one item of a task.

Flow: (task, seed, split, index) -> draw_item -> Scene and generator -> catalog.py, referring.py -> Sample.
Shapes: T frames, S side of the image in px.
"""

from collections.abc import Iterable
from zlib import crc32

import numpy as np

from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Rendering, Scene
from sa2va.world.scenes.splits import UNSEEN_PAIRS

SIDE = 256  # S, px
CLIP_FRAMES = 16  # T of a clip
# Append only: a task's position determines its scenes, and no two tasks share scenes.
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
_STRIDE = 16  # maximum number of tasks
_RETRY = 1_000_003  # added to the seed per retry of an item


def is_clip(task: str) -> bool:
    """Tell whether the samples of a task are clips."""
    return task.startswith("video")


def draw_item(
    task: str, seed: int, split: str, index: int, *, require_heldout: bool = False, attempt: int = 0
) -> tuple[Scene, np.random.Generator]:
    """Sample the scene of one item and a generator for everything else about it.

    Args:
        task: One of TASK_ORDER.
        seed: Random seed of the scenes.
        split: "train" shows no held-out pair; any other name does in some scenes.
        index: Item of the split.
        require_heldout: The scene has an object with a held-out pair.
        attempt: Number of the retry, counted up while the scene does not allow the requested kind.

    Returns:
        The scene and a new generator.
    """
    number = index * _STRIDE + TASK_ORDER.index(task)
    world = seed + attempt * _RETRY
    scene = make_scene(world, split, number, moving=is_clip(task), require_heldout=require_heldout)
    return scene, np.random.default_rng([world, index, crc32(f"{task}/{split}".encode())])


def render_item(scene: Scene, task: str) -> Rendering:
    """Render an item at the size and length of its task."""
    return scene.render(SIDE, CLIP_FRAMES if is_clip(task) else 1)


def is_heldout(scene: Scene, objects: Iterable[int]) -> bool:
    """Tell whether any of these objects has a pair of color and shape that training never shows."""
    return any(scene.objects[index].pair in UNSEEN_PAIRS for index in objects)
