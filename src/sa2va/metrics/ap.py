"""Match predicted with true masks and score the match: AP50, and mean IoU with misses counted as 0.

Flow: iou.pairwise_rle_iou -> greedy_match -> matched_iou per picture; detections -> average_precision over pictures.
Source: COCO evaluation (101-point AP, at most 100 masks of a picture); grounded.py has the mean IoU of GLaMM.
Shapes: P predicted masks, G true masks of one picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.interval import WeightedStatistic

THRESHOLD = 0.5  # least IoU of a true positive
MAX_DETECTIONS = 100  # of one picture; those of lower scores are left out


def greedy_match(similarity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns one to one, most similar first, while the similarity is positive.

    Args:
        similarity: (P, G).

    Returns:
        Pairs (row, column), best first. Ties go to the lower row, then the lower column.
    """
    left = np.array(similarity, float)
    pairs: list[tuple[int, int]] = []
    while left.size and left.max() > 0:
        row, column = divmod(int(left.argmax()), left.shape[1])
        pairs.append((row, column))
        left[row, :] = -np.inf
        left[:, column] = -np.inf
    return pairs


def matched_iou(similarity: NDArray[np.float64]) -> float:
    """Compute the mean IoU of one picture after greedy matching; unmatched masks on either side count as 0.

    Args:
        similarity: (P, G) IoU of every predicted with every true mask.

    Returns:
        0..1; 1 without any masks.
    """
    num_pred, num_target = similarity.shape
    pairs = greedy_match(similarity)
    num_objects = num_pred + num_target - len(pairs)
    return sum(float(similarity[pair]) for pair in pairs) / num_objects if num_objects else 1.0


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Detections of one picture, for AP."""

    scores: tuple[float, ...]  # (P,), best first
    hits: tuple[bool, ...]  # (P,), whether the mask is a true positive
    num_targets: int  # G


def detections(similarity: NDArray[np.float64], scores: Sequence[float]) -> Detections:
    """Match masks to objects by decreasing score, as in COCO.

    A mask is a true positive if its best unmatched object has an IoU of at least THRESHOLD; of equal ones it takes
    the last.

    Args:
        similarity: (P, G) IoU.
        scores: (P,) confidence of each mask, any range.
    """
    order = np.argsort(-np.asarray(scores, float), kind="stable")[:MAX_DETECTIONS]
    free = np.ones(similarity.shape[1], bool)
    hits = []
    for row in order:
        candidates = np.where(free, similarity[row], -1.0)
        best = candidates.size - 1 - int(candidates[::-1].argmax()) if candidates.size else -1
        hit = best >= 0 and candidates[best] >= THRESHOLD
        if hit:
            free[best] = False
        hits.append(bool(hit))
    return Detections(
        scores=tuple(float(scores[row]) for row in order), hits=tuple(hits), num_targets=similarity.shape[1]
    )


def _rank(pictures: Sequence[Detections]) -> Callable[[NDArray[np.int64]], float]:
    """Sort the masks of all pictures by score, then compute AP for any weights of the pictures."""
    scores = np.array([score for picture in pictures for score in picture.scores], float)
    hits = np.array([hit for picture in pictures for hit in picture.hits], bool)
    owners = np.repeat(np.arange(len(pictures)), [len(picture.hits) for picture in pictures])
    num_targets = np.array([picture.num_targets for picture in pictures], np.int64)
    order = np.argsort(-scores, kind="stable")
    hits, owners = hits[order], owners[order]

    def average(weights: NDArray[np.int64]) -> float:
        total, counted = int(weights @ num_targets), weights[owners]
        if not total:
            return float(not counted.any())
        true_positives, predicted = np.cumsum(counted * hits), np.cumsum(counted)
        precision = true_positives / np.maximum(predicted, 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]  # interpolated precision
        at = np.searchsorted(true_positives / total, np.linspace(0, 1, 101), side="left")
        return float(np.append(envelope, 0.0)[at].mean())

    return average


average_precision = WeightedStatistic(prepare=_rank)
"""AP of a sequence of Detections, 0..1: the area under the precision-recall curve of all pictures, sampled at 101
recalls as in COCO. Of equal scores, the mask of the earlier picture ranks higher, so give pictures in the order of
their ids. Without true masks: 1 if nothing was predicted, else 0."""
