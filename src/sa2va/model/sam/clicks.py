"""Decode what a user points at on one frame: clicks on and beside an object, a box around it, or its mask.

Flow: px of the picture -> Clicks -> px of SAM 2's square input -> decode_clicks, or follow_clicks of an object that is
    known -> MaskOutput.
Source: SAM 2, arXiv:2408.00714: a box is two points with labels of their own, and comes before the clicks.
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

BESIDE, INSIDE, FIRST_CORNER, SECOND_CORNER = range(4)  # labels
MAX_SCRIBBLE = 8  # clicks that stand for a scribble
MAX_PREVIOUS_LOGIT = 32.0  # to which SAM 2 cuts the mask that a click refines


@dataclass(frozen=True)
class Clicks:
    """Places (x, y) in px of the picture, each with its label."""

    places: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()

    def at(self, point: ArrayLike, height: int, width: int, *, inside: bool = True) -> "Clicks":
        """Add clicks.

        Args:
            point: (x, y) px, or a scribble (K, 2) px.
            height, width: of the picture, px.
            inside: whether they are on the object or beside it.

        Raises:
            ValueError: this is no point or scribble, or it lies outside the picture.
        """
        array = np.asarray(point, dtype=object)
        if array.shape != (2,) and (array.ndim != 2 or array.shape[1] != 2):
            raise ValueError(f"point: expected (x, y) or a scribble (K, 2) in px, got shape {array.shape}")
        region_to_mask(point, height, width)
        places = np.asarray(point, dtype=np.float64).reshape(-1, 2)
        places = places[(places >= 0).all(1) & (places <= (width, height)).all(1)]
        if len(places) > MAX_SCRIBBLE:
            places = places[np.linspace(0, len(places) - 1, MAX_SCRIBBLE).round().astype(int)]
        added = tuple((float(x), float(y)) for x, y in places)
        return Clicks(self.places + added, self.labels + (INSIDE if inside else BESIDE,) * len(added))

    @staticmethod
    def around(box: ArrayLike, height: int, width: int) -> "Clicks":
        """Turn a box (x0, y0, x1, y1) px into its two corners.

        Raises:
            ValueError: this is no box, or it lies outside the picture.
        """
        if np.shape(box) != (4,):
            raise ValueError(f"box: expected x0,y0,x1,y1 in px, got shape {np.shape(box)}")
        region_to_mask(box, height, width)
        x0, y0, x1, y1 = np.asarray(box, dtype=np.float64).tolist()
        corners = ((max(x0, 0.0), max(y0, 0.0)), (min(x1, float(width)), min(y1, float(height))))
        return Clicks(corners, (FIRST_CORNER, SECOND_CORNER))

    def to_tensors(self, size: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return places (1, P, 2) in px of the S x S input and labels (1, P)."""
        scale = torch.tensor([size / width, size / height], device=device, dtype=torch.float32)
        places = torch.tensor(self.places, device=device, dtype=torch.float32) * scale
        return places[None], torch.tensor([self.labels], device=device, dtype=torch.int32)


def read_mask(mask: ArrayLike, height: int, width: int) -> Tensor:
    """Read a mask that somebody has drawn: bool (H, W).

    Raises:
        ValueError: it has another shape, no pixel, or numbers that leave open where it ends, such as logits.
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
    """Decode one object.

    Args:
        sam2: decodes.
        policy: of the tracker that is going to follow the object.
        clicks: at least one.
        size: H, W of the picture.
        features: of the frame, F = 1.
        embeds: (1, C, g, g) that have read what is remembered of the object; None = nothing is.
        previous: logits (1, h, w) of the mask to be refined.
        present: whoever clicked says that the object is there; else the decoder says whether it is.
    """
    places, labels = clicks.to_tensors(sam2.size, *size, features.embeds.device)
    clear = len(clicks.labels) > sam2.native.config.multimask_max_pt_num
    output = sam2.decode(
        sam2.without_memory(features.embeds) if embeds is None else embeds,
        features.high_res,
        sam2.click_prompt(places, labels),
        previous=None if previous is None else previous.clamp(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT),
        num_candidates=1 if clear and policy.single_mask else 3,
        present=present,
    )
    return output.without_absent() if policy.overwrite_absent else output


def follow_clicks(
    sam2: Sam2,
    policy: TrackPolicy,
    clicks: Clicks,
    size: tuple[int, int],
    features: FrameFeatures,
    *,
    embeds: Tensor,
    found: MaskOutput,
) -> tuple[MaskOutput, bool]:
    """Refine the mask of an object that is known until it heeds the clicks.

    What is remembered can outweigh a click, above all where a track has gone over to another object. So the clicks are
    asked again without memory, and with one on the object also without the mask. Where no answer heeds more of them
    than the mask as it is, that stays.

    Args:
        sam2, policy, clicks, size, features: as in `decode_clicks`.
        embeds: (1, C, g, g) that have read what is remembered of the object.
        found: its mask on this frame, N = 1.

    Returns:
        The mask, and whether what is remembered of the object had to be left out.
    """
    previous = found.mask_logits
    ways: list[tuple[Tensor | None, Tensor | None]] = [(embeds, previous), (None, previous)]
    if any(label != BESIDE for label in clicks.labels):
        ways.append((None, None))
    chosen, forgets = found, False
    most = _count_heeded(sam2, clicks, size, found) if bool(found.presence_logits > 0) else -1
    for number, (seen, start) in enumerate(ways):
        output = decode_clicks(sam2, policy, clicks, size, features, embeds=seen, previous=start, present=True)
        heeded = _count_heeded(sam2, clicks, size, output)
        if heeded == len(clicks.labels):
            return output, number > 0
        if heeded > most:
            chosen, most, forgets = output, heeded, number > 0
    return chosen, forgets


def _count_heeded(sam2: Sam2, clicks: Clicks, size: tuple[int, int], output: MaskOutput) -> int:
    """Count the clicks that a mask has on the right side."""
    height, width = size
    mask = sam2.enlarge(output.mask_logits, height, width)[0] > 0
    pixels = [(min(int(y), height - 1), min(int(x), width - 1)) for x, y in clicks.places]
    return sum(bool(mask[pixel]) == (label != BESIDE) for pixel, label in zip(pixels, clicks.labels, strict=True))
