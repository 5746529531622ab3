"""Choose the frames of a clip that the language model reads.

Flow: Media -> choose_keyframes -> indices and frames -> processor.py, session.py.
Source: Sa2VA, arXiv:2501.04001 ("first"); Sa2VA-i, arXiv:2509.19082 ("uniform"); "content" is the farthest-point
    rule of Gonzalez, Clustering to minimize the maximum intercluster distance (1985), on color histograms.
Shapes: T frames, K key frames, H W picture.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.media.source import Media, uniform_indices
from sa2va.model.config import KEYFRAME_CHOICES
from sa2va.types import Frames

MAX_CANDIDATES = 1024  # frames that "content" compares, spread evenly over a longer clip
SMALL_SIDE = 64  # px, side of the reduced frame whose colors are counted
LEVELS = 4  # per color channel
PARTS = 2  # per side: there is a histogram for each quarter of the frame


def choose_keyframes(media: Media, choice: str, number: int) -> tuple[list[int], Frames]:
    """Pick the frames that the MLLM reads.

    Args:
        media: a source without a length can only give its first frames.
        choice: "uniform" over the whole clip, "first", or "content": those whose colors differ most.
        number: K, at most.

    Returns:
        Their indices and the frames (K, H, W, 3); the media still has all frames to give.

    Raises:
        ValueError: the choice is unknown.
    """
    if choice not in KEYFRAME_CHOICES:
        raise ValueError(f"keyframes {choice!r} is unknown; use one of {', '.join(KEYFRAME_CHOICES)}")
    if media.num_frames is None or choice == "first":
        frames = media.peek(number)
        return list(range(len(frames))), frames
    if choice == "content":
        indices = content_indices(media, media.num_frames, number)
    else:
        indices = uniform_indices(media.num_frames, min(number, media.num_frames))
    return indices, media.frames(indices)


def content_indices(frames: Iterable[NDArray[np.uint8]], num_frames: int, number: int) -> list[int]:
    """Choose frame 0, then repeatedly the frame farthest from those chosen; evenly where all frames are alike.

    Args:
        frames: all T frames, read once.
        num_frames: T.
        number: K.

    Returns:
        Increasing indices.
    """
    if num_frames <= number:
        return list(range(num_frames))
    candidates = uniform_indices(num_frames, max(MAX_CANDIDATES, number))
    wanted = set(candidates)
    colors = np.stack([count_colors(frame) for index, frame in enumerate(frames) if index in wanted])
    chosen = [0]
    distance = np.abs(colors - colors[0]).sum(1)  # (candidates,) to the nearest chosen one
    while len(chosen) < number and distance.any():
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(colors - colors[chosen[-1]]).sum(1))
    picked = [candidates[place] for place in chosen]
    spare = [index for index in uniform_indices(num_frames, 2 * number) if index not in picked]
    return sorted([*picked, *spare[: number - len(picked)]])


def count_colors(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the histogram of LEVELS^3 colors for each quarter of a frame; it sums to 1 over the frame."""
    small = cv2.resize(frame, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA)
    levels = small.astype(np.int64) * LEVELS // 256
    color = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    part = np.arange(SMALL_SIDE) * PARTS // SMALL_SIDE
    place = (part[:, None] * PARTS + part) * LEVELS**3
    counts = np.bincount((color + place).ravel(), minlength=PARTS**2 * LEVELS**3)
    return counts.astype(np.float32) / SMALL_SIDE**2
