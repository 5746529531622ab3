"""Decode the mask of a manual prompt on one frame: positive and negative clicks, or a box.

Flow: px of the picture -> Clicks -> px of SAM 2's square input -> decode_clicks, or refine_mask of a tracked object
    -> MaskOutput.
Source: SAM 2, arXiv:2408.00714: a box is two points with their own labels, before the clicks.
Shapes: P clicks, C width, g side of the coarsest grid, h w logit grid, H W picture, S SAM 2 input side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sa2va.masks import region_to_mask
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import TrackPolicy

NEGATIVE, POSITIVE, FIRST_CORNER, SECOND_CORNER = range(4)  # SAM 2's point labels
MAX_SCRIBBLE = 8  # number of clicks that a scribble is reduced to
MAX_PREVIOUS_LOGIT = 32.0  # bound of the mask logits that a click refines, as in SAM 2


@dataclass(frozen=True)
class Clicks:
    """Points (x, y) in px of the picture, each with its label."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()

    def at(self, point: ArrayLike, height: int, width: int, *, inside: bool = True) -> "Clicks":
        """Return the clicks with a point or scribble added.

        Args:
            point: (x, y) px, or a scribble (K, 2) px.
            height, width: size of the picture, px.
            inside: True for positive clicks (on the object), False for negative ones (off the object).

        Raises:
            ValueError: not a point or a scribble, or outside the picture.
        """
        array = np.asarray(point, dtype=object)
        if array.shape != (2,) and (array.ndim != 2 or array.shape[1] != 2):
            raise ValueError(f"point: expected (x, y) or a scribble (K, 2) in px, got shape {array.shape}")
        region_to_mask(point, height, width)
        points = np.asarray(point, dtype=np.float64).reshape(-1, 2)
        points = points[(points >= 0).all(1) & (points <= (width, height)).all(1)]
        if len(points) > MAX_SCRIBBLE:
            points = points[np.linspace(0, len(points) - 1, MAX_SCRIBBLE).round().astype(int)]
        added = tuple((float(x), float(y)) for x, y in points)
        return Clicks(self.points + added, self.labels + (POSITIVE if inside else NEGATIVE,) * len(added))

    @staticmethod
    def around(box: ArrayLike, height: int, width: int) -> "Clicks":
        """Return the two corner points of a box (x0, y0, x1, y1) px.

        Raises:
            ValueError: not a box, or outside the picture.
        """
        if np.shape(box) != (4,):
            raise ValueError(f"box: expected x0,y0,x1,y1 in px, got shape {np.shape(box)}")
        region_to_mask(box, height, width)
        x0, y0, x1, y1 = np.asarray(box, dtype=np.float64).tolist()
        corners = ((max(x0, 0.0), max(y0, 0.0)), (min(x1, float(width)), min(y1, float(height))))
        return Clicks(corners, (FIRST_CORNER, SECOND_CORNER))

    def to_tensors(self, size: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return points (1, P, 2) in px of the S x S input and labels (1, P)."""
        scale = torch.tensor([size / width, size / height], device=device, dtype=torch.float32)
        points = torch.tensor(self.points, device=device, dtype=torch.float32) * scale
        return points[None], torch.tensor([self.labels], device=device, dtype=torch.int32)


def read_mask(mask: ArrayLike, height: int, width: int) -> Tensor:
    """Validate a mask prompt; return it as bool (H, W).

    Raises:
        ValueError: wrong shape, empty, or neither bool nor uint8 (logits, for example).
    """
    array = np.asarray(mask)
    if array.shape != (height, width) or array.dtype not in (bool, np.uint8):
        raise ValueError(
            f"mask: expected bool or uint8 {(height, width)}, the size of the frame, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return torch.from_numpy(region_to_mask(array, height, width))


def decode_clicks(
    sam2: Sam2,
    policy: TrackPolicy,
    clicks: Clicks,
    size: tuple[int, int],
    features: FrameFeatures,
    *,
    embeds: Tensor | None = None,
    previous: Tensor | None = None,
    present: bool = False,
) -> MaskOutput:
    """Decode the mask of one object from clicks.

    Args:
        sam2: decodes the mask.
        policy: memory rules of the object's tracker.
        clicks: at least one.
        size: H, W of the picture.
        features: features of the frame, F = 1.
        embeds: (1, C, g, g), conditioned on the object's memory; None = without memory.
        previous: logits (1, h, w) of the mask to refine.
        present: the object is known to be in the frame; the decoder's presence is overridden.
    """
    points, labels = clicks.to_tensors(sam2.size, *size, features.embeds.device)
    unambiguous = len(clicks.labels) > sam2.native.config.multimask_max_pt_num
    output = sam2.decode(
        sam2.without_memory(features.embeds) if embeds is None else embeds,
        features.high_res,
        sam2.click_prompt(points, labels),
        previous=None if previous is None else previous.clamp(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT),
        num_candidates=1 if unambiguous and policy.single_mask else 3,
        present=present,
    )
    return output.without_absent() if policy.overwrite_absent else output


def refine_mask(
    sam2: Sam2,
    policy: TrackPolicy,
    clicks: Clicks,
    size: tuple[int, int],
    features: FrameFeatures,
    *,
    embeds: Tensor,
    found: MaskOutput,
) -> tuple[MaskOutput, bool]:
    """Refine a tracked mask with clicks until it contains all positive and no negative ones.

    Memory can outweigh a click, in particular when a track has drifted to another object. Then the clicks are decoded
    again without memory and, if one is positive, also without the previous mask. The tracked mask is kept unless a
    refined one agrees with more clicks.

    Args:
        sam2, policy, clicks, size, features: as in `decode_clicks`.
        embeds: (1, C, g, g), conditioned on the object's memory.
        found: tracked mask on this frame, N = 1.

    Returns:
        The mask, and whether it was decoded without the object's memory.
    """
    previous = found.mask_logits
    inputs: list[tuple[Tensor | None, Tensor | None]] = [(embeds, previous), (None, previous)]
    if any(label != NEGATIVE for label in clicks.labels):
        inputs.append((None, None))
    chosen, forgets = found, False
    most = _count_agreeing(sam2, clicks, size, found) if bool(found.presence_logits > 0) else -1
    for number, (seen, start) in enumerate(inputs):
        output = decode_clicks(sam2, policy, clicks, size, features, embeds=seen, previous=start, present=True)
        agreeing = _count_agreeing(sam2, clicks, size, output)
        if agreeing == len(clicks.labels):
            return output, number > 0
        if agreeing > most:
            chosen, most, forgets = output, agreeing, number > 0
    return chosen, forgets


def _count_agreeing(sam2: Sam2, clicks: Clicks, size: tuple[int, int], output: MaskOutput) -> int:
    """Count the positive clicks inside a mask and the negative ones outside."""
    height, width = size
    mask = sam2.enlarge(output.mask_logits, height, width)[0] > 0
    pixels = [(min(int(y), height - 1), min(int(x), width - 1)) for x, y in clicks.points]
    return sum(bool(mask[pixel]) == (label != NEGATIVE) for pixel, label in zip(pixels, clicks.labels, strict=True))
