"""Show one object of a clip to a captioner: pixels and its mask, nothing else.

Flow: SourceClip -> read_views -> View per object -> crop, alone, outlined -> pictures for a captioner.
Source: Sa2VA, arXiv:2501.04001, section on Ref-SAV: a crop on the frame where the object is largest, the object
    outlined in that frame, and NUM_FRAMES outlined frames of the clip.
Shapes: K frames of a view, H W picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.draw.overlay import overlay
from sa2va.masks import bbox
from sa2va.media.source import uniform_indices
from sa2va.synth.sources import SourceClip
from sa2va.types import Frame, Frames, MaskTracks

NUM_FRAMES = 8  # outlined frames of the video level
MARGIN = 0.25  # around a crop, share of the longer side of the object's box
GRAY = 200  # level of everything but the object where it is shown alone
EDGE = 2  # px around a mask that are painted over with it
_AT_ONCE = 16  # frames whose masks are decoded together to find the largest


@dataclass(frozen=True, kw_only=True)
class View:
    """One object of a clip.

    Attributes:
        clip: name of the clip.
        object: place of the object among the masks of the clip.
        frames: uint8 (K, H, W, 3), spread over the clip from its first frame to its last one.
        masks: bool (K, H, W) of the object.
        frame: uint8 (H, W, 3), the annotated frame on which it has the largest area.
        mask: bool (H, W) on that frame.
    """

    clip: str
    object: int
    frames: Frames
    masks: NDArray[np.bool_]
    frame: Frame
    mask: NDArray[np.bool_]

    def crop(self) -> Frame:
        """Cut the object out of its largest frame, with a margin: uint8 (h, w, 3)."""
        left, top, right, bottom = (int(side) for side in bbox(self.mask) or (0, 0, *self.mask.shape[::-1]))
        margin = round(MARGIN * max(right - left, bottom - top))
        return self.frame[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]

    def alone(self) -> Frame:
        """Gray out everything but the object on its largest frame: uint8 (H, W, 3)."""
        return np.where(self.mask[..., None], self.frame, np.uint8(GRAY))

    def erased(self) -> "View":
        """Return the same frames with the object painted over in the mean color of what surrounds it."""
        frames = np.stack([_erase(frame, mask) for frame, mask in zip(self.frames, self.masks, strict=True)])
        return replace(self, frames=frames, frame=_erase(self.frame, self.mask))

    def outlined(self) -> Frame:
        """Outline the object on its largest frame: uint8 (H, W, 3)."""
        return overlay(self.frame, self.mask[None], alpha=0)

    def outlined_frames(self) -> list[Frame]:
        """Outline the object on K frames, each uint8 (H, W, 3)."""
        return [overlay(frame, mask[None], alpha=0) for frame, mask in zip(self.frames, self.masks, strict=True)]


def _erase(frame: Frame, mask: NDArray[np.bool_]) -> Frame:
    """Paint over a mask and its blurred edge: uint8 (H, W, 3)."""
    if not mask.any():
        return frame
    edge = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
    covered = cv2.dilate(mask.astype(np.uint8), edge).astype(bool)
    around = cv2.dilate(covered.astype(np.uint8), edge).astype(bool) & ~covered
    color = frame[around].mean(0) if around.any() else np.full(3, GRAY)
    return np.where(covered[..., None], np.rint(color).astype(np.uint8), frame)


def read_views(clip: SourceClip) -> list[View]:
    """Decode what the objects of a clip look like.

    Returns:
        A view per object; objects without a pixel on any annotated frame are left out.

    Raises:
        ValueError: a file of the clip is damaged or missing.
    """
    media, tracks = clip.open()
    num_frames = media.num_frames or 0
    chosen = uniform_indices(num_frames, NUM_FRAMES)
    largest = _find_largest(tracks, num_frames)
    wanted = sorted({*chosen, *(frame for frame in largest if frame is not None)})
    frames = dict(zip(wanted, media.frames(wanted), strict=True))
    shown = np.stack([frames[index] for index in chosen])
    return [
        View(
            clip=clip.name, object=index, frames=shown, masks=tracks.masks([index], chosen)[0],
            frame=frames[place], mask=tracks.masks([index], [place])[0, 0],
        )
        for index, place in enumerate(largest) if place is not None
    ]  # fmt: skip


def _find_largest(tracks: MaskTracks, num_frames: int) -> Sequence[int | None]:
    """Find the frame on which each object has most pixels; None for one without any."""
    areas = np.zeros((len(tracks), num_frames), np.int64)
    for start in range(0, num_frames, _AT_ONCE):
        part = range(start, min(start + _AT_ONCE, num_frames))
        for index in range(len(tracks)):
            areas[index, list(part)] = tracks.masks([index], part)[0].sum((1, 2))
    return [int(row.argmax()) if row.any() else None for row in areas]
