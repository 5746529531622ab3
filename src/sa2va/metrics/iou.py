"""Compute IoU metrics of masks.

Flow: evaluation/ -> intersection_union per pair -> ciou, giou over a benchmark.
Source: RefCOCO practice (cIoU) and gRefCOCO, arXiv:2306.00968 (gIoU). We leave out the usual 1e-5
    in the denominator, so that a perfect mask scores 1.
Shapes: ... any leading dimensions, H W picture, E pairs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def intersection_union(
    pred: NDArray[np.bool_], target: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of intersection and union.

    Args:
        pred: (..., H, W) bool.
        target: (..., H, W) bool, the same size.

    Returns:
        Intersection and union, (...) pixels each.

    Raises:
        ValueError: the two differ in shape.
    """
    pred, target = np.asarray(pred, bool), np.asarray(target, bool)
    if pred.shape != target.shape:
        raise ValueError(f"masks to compare differ in shape: predicted {pred.shape}, true {target.shape}")
    intersection = np.count_nonzero(pred & target, axis=(-2, -1))
    union = np.count_nonzero(pred | target, axis=(-2, -1))
    return np.asarray(intersection), np.asarray(union)


def ratio(intersection: ArrayLike, union: ArrayLike) -> NDArray[np.float64]:
    """Divide counts elementwise; 0 / 0 is 1, since two empty masks agree."""
    intersection, union = np.asarray(intersection, float), np.asarray(union, float)
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def iou(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """Compute the IoU of two masks (H, W), or of two mask tracks (T, H, W) pooled over frames."""
    intersection, union = intersection_union(pred, target)
    return float(ratio(intersection.sum(), union.sum()))


def pairwise_iou(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the IoU of every predicted mask with every true one.

    Args:
        pred: (P, ...) bool; trailing dimensions (H, W) or (T, H, W).
        target: (G, ...) bool, the same trailing dimensions.

    Returns:
        (P, G), 0..1.
    """
    similarity = [[iou(one, other) for other in target] for one in pred]
    return np.array(similarity, float).reshape(len(pred), len(target))


def ciou(intersections: ArrayLike, unions: ArrayLike) -> float:
    """Compute the cumulative IoU: total intersection over total union, so that large objects weigh more.

    Args:
        intersections: (E,) pixels.
        unions: (E,) pixels.
    """
    return float(ratio(np.sum(intersections), np.sum(unions)))


def giou(intersections: ArrayLike, unions: ArrayLike) -> float:
    """Compute the mean IoU over pairs; two empty masks, of a correctly absent object, score 1."""
    return float(np.mean(ratio(intersections, unions)))
