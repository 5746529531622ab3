"""Score mask tracks by region similarity (J) and contour accuracy (F).

Flow: evaluation/ -> jaccard, boundary_f per frame -> means per track and over expressions.
Source: DAVIS, Perazzi et al., CVPR 2016. As in the Sa2VA evaluation, every frame counts and two empty masks score 1.
Shapes: ... any leading dimensions (usually T frames), H W picture.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.iou import intersection_union, ratio

TOLERANCE = 0.008  # largest distance of matching contours relative to the diagonal of the picture


def boundary_map(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark contours one pixel thick: pixels that differ from their right, lower or lower-right neighbor.

    The border of the picture is no contour: a mask that fills the picture has none.

    Args:
        masks: (..., H, W) bool.

    Returns:
        (..., H, W) bool.
    """
    padded = np.pad(masks, [(0, 0)] * (masks.ndim - 2) + [(0, 1), (0, 1)], mode="edge")
    here = padded[..., :-1, :-1]
    return (here ^ padded[..., :-1, 1:]) | (here ^ padded[..., 1:, :-1]) | (here ^ padded[..., 1:, 1:])


def tolerance_radius(height: int, width: int) -> int:
    """Return the largest distance of matching contours, px, rounded up."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


def disk(radius: int) -> NDArray[np.uint8]:
    """Return a filled disk, a (2 * radius + 1) square of 0 and 1, as structuring element."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def jaccard(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute J per frame: the IoU, 1 if both masks are empty.

    Args:
        pred: (..., H, W) bool.
        target: (..., H, W) bool.

    Returns:
        (...), 0..1.
    """
    return ratio(*intersection_union(pred, target))


def boundary_f(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute F per frame: the harmonic mean of contour precision and recall within the tolerance.

    F is 1 if both masks have no contour, and 0 if only one has none.

    Args:
        pred: (..., H, W) bool.
        target: (..., H, W) bool.

    Returns:
        (...), 0..1.
    """
    if pred.shape != target.shape:
        raise ValueError(f"masks to compare differ in shape: predicted {pred.shape}, true {target.shape}")
    height, width = pred.shape[-2:]
    kernel = disk(tolerance_radius(height, width))
    frames = (
        np.asarray(masks, bool).reshape(-1, height, width) for masks in (pred, target)
    )  # (..., H, W) -> (T, H, W)
    scores = [_frame_f(one, other, kernel) for one, other in zip(*frames, strict=True)]
    return np.asarray(scores, float).reshape(pred.shape[:-2])


def _frame_f(pred: NDArray[np.bool_], target: NDArray[np.bool_], kernel: NDArray[np.uint8]) -> float:
    window = _around(pred | target)  # both contours lie in it
    pred, target = boundary_map(pred[window]), boundary_map(target[window])
    num_pred, num_target = int(pred.sum()), int(target.sum())
    if not num_pred or not num_target:
        return float(num_pred == num_target)
    precision = np.count_nonzero(pred & cv2.dilate(target.view(np.uint8), kernel).view(bool)) / num_pred
    recall = np.count_nonzero(target & cv2.dilate(pred.view(np.uint8), kernel).view(bool)) / num_target
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the window of a mask with one pixel more on each side, within the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
