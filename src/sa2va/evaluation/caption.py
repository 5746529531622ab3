"""Score descriptions of a region, a picture or a clip, and captions grounded in masks.

Flow: a benchmark -> *_record per item -> *_figures over records.
Source: AP50 and mean IoU of grounded captions as in GLaMM, arXiv:2311.03356; ours counts unmatched objects as 0.
Shapes: P predicted masks, G true masks of one picture, H W picture.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Figure, Record, measure
from sa2va.metrics.ap import Detections, average_precision, detections, matched_iou
from sa2va.metrics.iou import pairwise_iou
from sa2va.metrics.text import attribute_counts, f1

ANOTHER_CAPTION = "the caption of another scene"
ANOTHER_MASKS = "the masks of another scene"


def grounded_record(answer: Answer, target: NDArray[np.bool_], other: NDArray[np.bool_]) -> Record:
    """Match the masks of a caption with the ground truth.

    Args:
        answer: P masks.
        target: (G, H, W), every object of the picture.
        other: (K, H, W), every object of another picture, as image-blind baseline.
    """
    similarity = pairwise_iou(answer.masks[:, 0], target)
    blind = pairwise_iou(other, target)
    scores = [float(found.presence * found.scores[0]) for found in answer.objects]
    return {
        "iou": matched_iou(similarity),
        "plain": _to_record(detections(similarity, [1.0] * len(scores))),
        "ranked": _to_record(detections(similarity, scores)),
        "chance_iou": matched_iou(blind),
        "chance": _to_record(detections(blind, [1.0] * len(other))),
    }


def _to_record(found: Detections) -> Record:
    return {"scores": list(found.scores), "hits": list(found.hits), "num_targets": found.num_targets}


def _pictures(records: Sequence[Record], name: str) -> list[Detections]:
    return [Detections(**record[name]) for record in records]


def grounded_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute mean IoU and two variants of AP50: every score 1 (as published), ranked by the model's scores."""
    chance = average_precision(_pictures(records, "chance")) if records else None
    blind = float(np.mean([r["chance_iou"] for r in records])) if records else None
    ious = np.array([r["iou"] for r in records])

    def precision(name: str, kind: str, bar: Bar | None) -> Figure:
        pictures = _pictures(records, kind)
        return measure(name, pictures, average_precision, chance=chance, baseline=ANOTHER_MASKS, bar=bar)

    return [
        precision("AP50, every score 1", "plain", Bar(0.60)),
        precision("AP50, ranked by score", "ranked", None),
        measure("mean IoU, unmatched objects 0", ious, chance=blind, baseline=ANOTHER_MASKS, bar=Bar(0.65)),
    ]


Described = Sequence[Mapping[str, str]]  # attributes of each object in a text


def described_record(said: Described, gold: Described, text: str) -> Record:
    """Record the attributes found in a text and those expected."""
    return {"said": [dict(one) for one in said], "gold": [dict(one) for one in gold], "text": text}


def attribute_f1(records: Sequence[Record], bar: Bar | None, name: str, only: Collection[str] | None = None) -> Figure:
    """Compute F1 over all attributes of all objects; the baseline is the description of the next item.

    Args:
        records: of `described_record`.
        bar: threshold, if any.
        name: of the figure.
        only: the attributes that count; None is all.
    """
    rows = np.array([attribute_counts(r["said"], r["gold"], only) for r in records], float).reshape(-1, 3)
    shifted = [*records[1:], *records[:1]]
    blind = [attribute_counts(o["gold"], r["gold"], only) for r, o in zip(records, shifted, strict=True)]
    chance = pooled_f1(np.array(blind, float)) if len(blind) > 1 else None
    counts = rows[rows[:, 1:].any(1)]  # skip items where neither text nor truth has such an attribute
    return measure(name, counts, pooled_f1, chance=chance, baseline=ANOTHER_CAPTION, bar=bar)


def pooled_f1(rows: NDArray[np.float64]) -> float:
    """Return F1 of counts (E, 3) summed over items: matched, predicted, true."""
    return f1(*rows.sum(0))
