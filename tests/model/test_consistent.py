"""Check consistent tracking against the library's own session, given the same masks."""

import pytest
import torch
from stock_sam2 import Tracked, build_sam2, draw_clip, draw_masks, propagate
from torch import Tensor

from sa2va.model.sam2 import Sam2
from sa2va.model.tracker import STOCK, Tracker, TrackPolicy

NUM_FRAMES, KEYFRAMES, NUM_OBJECTS = 24, (0, 6, 11, 17, 23), 3


@torch.no_grad()
def track_given(
    sam2: Sam2, pixels: Tensor, masks: dict[int, Tensor], policy: TrackPolicy = STOCK, *, known: bool = True
) -> Tracked:
    """Give masks (N, S, S) on some frames, all at once, and follow all objects in one batch."""
    tracker, found = Tracker(sam2, policy, num_frames=len(pixels)), {}
    for frame, given in masks.items():
        features = sam2.encode_frames(pixels[frame : frame + 1])
        found[frame] = sam2.take_masks(features, given)
        tracker.prompt(frame, features, found[frame], given=given if known else None)
    for frame in range(len(pixels)):
        if frame not in masks:
            found[frame] = tracker.step(frame, sam2.encode_frames(pixels[frame : frame + 1]))
    return {frame: (found[frame].mask_logits, found[frame].presence_logits) for frame in sorted(found)}


def rows(masks: dict[int, Tensor], *objects: int) -> dict[int, dict[int, Tensor]]:
    """Write masks by frame as masks by object and frame."""
    return {n: {frame: mask[n] for frame, mask in masks.items()} for n in objects}


def difference(one: Tracked, other: Tracked) -> float:
    """Return the largest difference of any logit."""
    return max((a - b).abs().max().item() for f in one for a, b in zip(one[f], other[f], strict=True))


@pytest.fixture(scope="module", params=["2.0", "2.1"])
def case(request: pytest.FixtureRequest) -> tuple[Sam2, Tensor, dict[int, Tensor]]:
    """A model, a clip, and the masks of three objects, one of which is missing on one key frame."""
    masks = draw_masks(NUM_OBJECTS, *KEYFRAMES)
    masks[KEYFRAMES[2]][1] = False
    return build_sam2(request.param), draw_clip(NUM_FRAMES), masks


def test_several_objects_equal_the_library(case: tuple[Sam2, Tensor, dict[int, Tensor]]) -> None:
    sam2, pixels, masks = case
    stock = propagate(sam2, pixels, rows(masks, 0, 1, 2))
    present = torch.cat([presence > 0 for frame, (_, presence) in stock.items() if frame not in KEYFRAMES])
    assert 0.2 < present.float().mean() < 0.8  # so that both branches are compared
    assert difference(track_given(sam2, pixels, masks), stock) < 1e-3


def test_one_object_equals_the_library(case: tuple[Sam2, Tensor, dict[int, Tensor]]) -> None:
    sam2, pixels, masks = case
    alone = {frame: mask[1:2] for frame, mask in masks.items()}
    assert difference(track_given(sam2, pixels, alone), propagate(sam2, pixels, rows(masks, 1))) < 1e-4
