"""Choose clips in which objects disappear and return, and the frames that a tracker trains on.

Flow: (seed, index) -> choose_short or choose_long -> ChosenFrames -> memory.py.
    A short clip is a scene of the video tasks in which an object is hidden or switched off for some frames. Of a long
    clip the prompted frame and one later window are kept, in which objects return, leave or cross.
Shapes: T frames of the clip, K kept ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sa2va.world.scenes.long_clips import BEAT, FRAMES, Absence, list_absences, make_long_clip
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene
from sa2va.world.scenes.splits import TRAIN

_GAPS = ("passes behind", "blinks")  # motions with a gap, the rarer one first
_RETURN, _EXIT = 0.6, 0.2  # shares of long windows; the others begin anywhere after the prompt


@dataclass(frozen=True)
class ChosenFrames:
    """Frames of one clip."""

    scene: Scene
    num_frames: int  # T
    frames: tuple[int, ...]  # K indices, the prompted frame first, then the tracked ones


def choose_short(seed: int, index: int, num_frames: int, frames: Sequence[int], candidates: int) -> ChosenFrames:
    """Choose the first of some scenes with an object that passes behind another, else one that blinks.

    Args:
        seed: random seed of the scenes.
        index: number of the clip; each number has candidates of its own.
        num_frames: T.
        frames: the kept frames, the prompted one first.
        candidates: number of scenes to choose from.
    """
    scenes = [make_scene(seed, TRAIN, index * candidates + number, moving=True) for number in range(candidates)]
    return ChosenFrames(min(scenes, key=_rank_gaps), num_frames, tuple(frames))


def _rank_gaps(scene: Scene) -> int:
    kinds = {item.motion.kind for item in scene.objects}
    return next((rank for rank, kind in enumerate(_GAPS) if kind in kinds), len(_GAPS))


def choose_long(seed: int, index: int, num_tracked: int, strides: Sequence[int]) -> ChosenFrames:
    """Choose a long clip, a frame in which an object is visible before it leaves, and a window after it.

    Args:
        seed: random seed of the clip and of the choice.
        index: number of the clip.
        num_tracked: frames of the window, K - 1.
        strides: distances of two frames of the window to choose from.
    """
    rng = np.random.default_rng([seed, index])
    scene = make_long_clip(seed, index, split=TRAIN)
    absences: list[Absence] = list_absences(scene)  # at least one
    chosen, stride, kind = absences[int(rng.integers(len(absences)))], int(rng.choice(strides)), rng.random()
    span = stride * (num_tracked - 1)
    prompted = int(rng.integers(chosen.since, chosen.left + 1))
    if kind < _RETURN:
        begin = chosen.back - int(rng.integers(span * 2 // 3))
    elif kind < _RETURN + _EXIT:
        begin = chosen.left + BEAT - int(rng.integers(span))
    else:
        begin = int(rng.integers(FRAMES))
    begin = max(prompted + 1, min(begin, FRAMES - 1 - span))
    window = (min(begin + stride * number, FRAMES - 1) for number in range(num_tracked))
    return ChosenFrames(scene, FRAMES, (prompted, *window))
