"""Compute IoU metrics of masks.

Flow: evaluation/ -> overlap per pair -> rows of pixel counts -> referring.py over a benchmark;
    pairwise_iou, pairwise_rle_iou of one picture -> ap.py, grounded.py.
Source: RefCOCO practice (cIoU), gRefCOCO, arXiv:2306.00968 (gIoU) and ReasonSeg, arXiv:2308.00692 (ignored pixels).
    We leave out the usual 1e-5 in the denominator, so that a perfect mask scores 1; `epsilon` puts it back.
Shapes: ... any leading dimensions, H W picture, E pairs, P predicted and G true masks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

from sa2va.masks import encode_rle

RELEASED_EPSILON = 1e-5  # added to the union of each pair by the published code of LISA and Sa2VA


class Overlap(NamedTuple):
    """Pixel counts of a predicted and a true mask; as a tuple, a row of referring.py."""

    intersection: int
    union: int
    pred: int  # area of the predicted mask
    target: int  # area of the true mask


def intersection_union(
    pred: NDArray[np.bool_], target: NDArray[np.bool_], ignore: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of intersection and union.

    Args:
        pred: (..., H, W) bool.
        target: (..., H, W) bool, the same size.
        ignore: (..., H, W) bool, pixels that count in neither; None = every pixel counts.

    Returns:
        Intersection and union, (...) pixels each.

    Raises:
        ValueError: the masks differ in shape.
    """
    pred, target = _as_masks(pred, target, ignore)
    intersection = np.count_nonzero(pred & target, axis=(-2, -1))
    union = np.count_nonzero(pred | target, axis=(-2, -1))
    return np.asarray(intersection), np.asarray(union)


def overlap(pred: NDArray[np.bool_], target: NDArray[np.bool_], ignore: NDArray[np.bool_] | None = None) -> Overlap:
    """Count the pixels of two masks (H, W), or of two mask tracks (T, H, W) pooled over frames.

    Args:
        pred, target, ignore: as for `intersection_union`. Ignored pixels count in no area.
    """
    pred, target = _as_masks(pred, target, ignore)
    num_pred, num_target = int(np.count_nonzero(pred)), int(np.count_nonzero(target))
    intersection = int(np.count_nonzero(pred & target))
    return Overlap(intersection, num_pred + num_target - intersection, num_pred, num_target)


def ratio(intersection: ArrayLike, union: ArrayLike, epsilon: float = 0.0) -> NDArray[np.float64]:
    """Divide counts elementwise; 0 / 0 is 1, since two empty masks agree.

    Args:
        intersection, union: (...) pixels.
        epsilon: added to the union, unless it is 0.
    """
    intersection, union = np.asarray(intersection, float), np.asarray(union, float)
    return np.where(union > 0, intersection / (np.maximum(union, 1) + epsilon), 1.0)


def iou(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """Compute the IoU of two masks (H, W), or of two mask tracks (T, H, W) pooled over frames."""
    counts = overlap(pred, target)
    return float(ratio(counts.intersection, counts.union))


def pairwise_iou(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the IoU of every predicted mask with every true one; two empty masks have 0, for neither was found.

    Args:
        pred: (P, ...) bool; trailing dimensions (H, W) or (T, H, W).
        target: (G, ...) bool, the same trailing dimensions.

    Returns:
        (P, G), 0..1.
    """
    return pairwise_rle_iou(_encode_all(pred), _encode_all(target))


def pairwise_rle_iou(pred: Sequence[Mapping[str, Any]], target: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Compute the IoU of every predicted with every true run-length mask, without decoding them.

    Args:
        pred: P compressed COCO masks {"size": [H, W], "counts": str or bytes}.
        target: G of the same size.

    Returns:
        (P, G), 0..1; 0 for two empty masks, as in COCO.

    Raises:
        ValueError: the masks differ in size.
    """
    sizes = {tuple(rle["size"]) for rle in (*pred, *target)}
    if len(sizes) > 1:
        raise ValueError(f"masks to compare differ in size (H, W): {', '.join(map(str, sorted(sizes)))}")
    if not len(pred) or not len(target):
        return np.zeros((len(pred), len(target)))
    found = coco.iou(_as_bytes(pred), _as_bytes(target), [0] * len(target))
    return np.asarray(found, float).reshape(len(pred), len(target))


def ciou(intersections: ArrayLike, unions: ArrayLike) -> float:
    """Compute the cumulative IoU: total intersection over total union, so that large objects weigh more.

    Args:
        intersections: (E,) pixels.
        unions: (E,) pixels.
    """
    return float(ratio(np.sum(intersections), np.sum(unions)))


def giou(intersections: ArrayLike, unions: ArrayLike, epsilon: float = 0.0) -> float:
    """Compute the mean IoU over pairs; two empty masks, of a correctly absent object, score 1.

    Args:
        intersections, unions: as for `ciou`.
        epsilon: added to each union; RELEASED_EPSILON for the exact number of the published code.
    """
    return float(np.mean(ratio(intersections, unions, epsilon)))


def _as_masks(pred: ArrayLike, target: ArrayLike, ignore: ArrayLike | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both masks as bool, without the pixels to ignore."""
    pred, target = np.asarray(pred, bool), np.asarray(target, bool)
    if pred.shape != target.shape:
        raise ValueError(f"masks to compare differ in shape: predicted {pred.shape}, true {target.shape}")
    if ignore is None:
        return pred, target
    counted = ~np.asarray(ignore, bool)
    if counted.shape != target.shape:
        raise ValueError(f"masks to compare differ in shape: ignored {counted.shape}, true {target.shape}")
    return pred & counted, target & counted


def _encode_all(masks: NDArray[np.bool_]) -> list[Mapping[str, Any]]:
    return [encode_rle(np.reshape(mask, (-1, np.shape(mask)[-1]))) for mask in masks]


def _as_bytes(rles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return masks as pycocotools takes them."""
    return [
        {**rle, "counts": rle["counts"].encode("ascii") if isinstance(rle["counts"], str) else rle["counts"]}
        for rle in rles
    ]
