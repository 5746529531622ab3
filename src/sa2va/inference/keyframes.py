"""Choose the key frames of a clip, which the MLLM reads.

Flow: Media -> choose_keyframes -> indices and frames -> engine.py; training takes `keyframe_indices`.
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

MAX_CANDIDATES = 1024  # maximum number of frames that "content" compares; a longer clip is sampled uniformly
SMALL_SIDE = 64  # px, side of the downscaled frame for the histograms
LEVELS = 4  # histogram bins per color channel
PARTS = 2  # per side: one histogram for each quadrant of the frame


def choose_keyframes(media: Media, choice: str, number: int) -> tuple[list[int], Frames]:
    """Choose and decode the key frames of a clip.

    Args:
        media: source of the frames; without a known length, its first frames are taken whatever the choice.
        choice: "uniform" over the whole clip, "first", or "content": those with the most different colors.
        number: K, maximum number of key frames.

    Returns:
        Indices and frames (K, H, W, 3). The media can still be iterated from its first frame.

    Raises:
        ValueError: the choice is unknown.
    """
    if media.num_frames is None:
        check_choice(choice)
        frames = media.peek(number)
        return list(range(len(frames))), frames
    indices = keyframe_indices(media, media.num_frames, choice, number)
    return indices, media.frames(indices)


def keyframe_indices(
    frames: Iterable[NDArray[np.uint8]], num_frames: int, choice: str, number: int, shift: float = 0.0
) -> list[int]:
    """Choose the key frames of a clip of known length, for prediction and for training.

    Args:
        frames: all T frames; only "content" reads them, once.
        num_frames: T.
        choice: as `choose_keyframes`.
        number: K, maximum number of key frames.
        shift: common shift of "uniform" ones, see `uniform_indices`; training draws it anew for each sample.

    Returns:
        Indices, in increasing order.

    Raises:
        ValueError: the choice is unknown.
    """
    check_choice(choice)
    if choice == "content":
        return content_indices(frames, num_frames, number)
    return list(range(min(number, num_frames))) if choice == "first" else uniform_indices(num_frames, number, shift)


def check_choice(choice: object) -> None:
    """Raise ValueError if there is no such choice of key frames."""
    if not isinstance(choice, str) or choice not in KEYFRAME_CHOICES:
        raise ValueError(f"keyframes {choice!r} is unknown; use one of {', '.join(KEYFRAME_CHOICES)}")


def content_indices(frames: Iterable[NDArray[np.uint8]], num_frames: int, number: int) -> list[int]:
    """Sample frames farthest-first by color, from frame 0; once all distances are 0, add uniform ones.

    Args:
        frames: all T frames, read once.
        num_frames: T.
        number: K.

    Returns:
        Indices, in increasing order.
    """
    if num_frames <= number:
        return list(range(num_frames))
    candidates = uniform_indices(num_frames, max(MAX_CANDIDATES, number))
    wanted = set(candidates)
    colors = np.stack([count_colors(frame) for index, frame in enumerate(frames) if index in wanted])
    chosen = [0]
    distance = np.abs(colors - colors[0]).sum(1)  # (candidates,) distance to the nearest chosen frame
    while len(chosen) < number and distance.any():
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(colors - colors[chosen[-1]]).sum(1))
    picked = [candidates[index] for index in chosen]
    spare = [index for index in uniform_indices(num_frames, 2 * number) if index not in picked]
    return sorted([*picked, *spare[: number - len(picked)]])


def count_colors(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return color histograms of LEVELS^3 bins for the four quadrants of a frame; together they sum to 1."""
    small = cv2.resize(frame, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA)
    levels = small.astype(np.int64) * LEVELS // 256
    color = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    half = np.arange(SMALL_SIDE) * PARTS // SMALL_SIDE
    offset = (half[:, None] * PARTS + half) * LEVELS**3
    counts = np.bincount((color + offset).ravel(), minlength=PARTS**2 * LEVELS**3)
    return counts.astype(np.float32) / SMALL_SIDE**2
