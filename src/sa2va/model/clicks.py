"""Decode what a user points at on one frame: clicks on and beside an object, or a box around it.

Flow: px of the picture -> Clicks -> px of SAM 2's square input -> decode_clicks -> MaskOutput.
Source: SAM 2, arXiv:2408.00714: a box is two points with labels of their own, and comes before the clicks.
Shapes: P clicks, C width, g side of the coarsest grid, h w logit grid, H W picture, S SAM 2 input side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sa2va.masks import region_to_mask
from sa2va.model.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.tracker import TrackPolicy

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
        scale = torch.tensor([size / width, size / height], device=device)
        places = torch.tensor(self.places, device=device, dtype=torch.float32) * scale
        return places[None], torch.tensor([self.labels], device=device, dtype=torch.int32)


def decode_clicks(
    sam2: Sam2,
    policy: TrackPolicy,
    clicks: Clicks,
    size: tuple[int, int],
    features: FrameFeatures,
    *,
    embeds: Tensor | None = None,
    previous: Tensor | None = None,
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
    """
    places, labels = clicks.to_tensors(sam2.size, *size, features.embeds.device)
    clear = len(clicks.labels) > sam2.native.config.multimask_max_pt_num
    output = sam2.decode(
        sam2.without_memory(features.embeds) if embeds is None else embeds,
        features.high_res,
        sam2.click_prompt(places, labels),
        previous=None if previous is None else previous.clamp(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT),
        num_candidates=1 if clear and policy.single_mask else 3,
    )
    return output.without_absent() if policy.overwrite_absent else output
