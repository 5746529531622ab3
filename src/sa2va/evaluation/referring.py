"""Score referring segmentation: masks in pictures, groups, absent objects, and calibration.

Flow: a benchmark -> *_record per item -> *_figures over records.
Source: cIoU and gIoU as in RefCOCO and gRefCOCO (metrics/referring.py); calibration as in metrics/calibration.py.
Shapes: N predicted masks, M objects of a scene, T frames, H W picture.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Figure, Record, measure
from sa2va.metrics.calibration import calibration_error
from sa2va.metrics.interval import mean_of_classes
from sa2va.metrics.iou import intersection_union, ratio
from sa2va.metrics.referring import cumulative_iou, mean_iou
from sa2va.types import Masks

RANDOM_OBJECT = "a random object of the scene"


def choices(candidates: Masks, number: int) -> NDArray[np.bool_]:
    """Return the union of each subset of `number` objects, as baseline: (M, T, H, W) -> (choices, T, H, W)."""
    return np.stack(
        [np.any(candidates[list(chosen)], axis=0) for chosen in combinations(range(len(candidates)), number)]
    )


def overlap_record(answer: Answer, target: NDArray[np.bool_], candidates: Masks, number: int = 1) -> Record:
    """Compare the union of the predicted masks with the target, and with randomly chosen objects.

    Args:
        answer: any number of masks.
        target: (T, H, W), the true pixels.
        candidates: (M, T, H, W), every object of the scene.
        number: how many of them the expression refers to.

    Returns:
        Intersection and union in px, and their expectation for `number` random objects.
    """
    intersection, union = intersection_union(np.any(answer.masks, axis=0), target)
    blind = choices(candidates, number)
    blind_shared, blind_covered = intersection_union(blind, np.broadcast_to(target, blind.shape))
    shared, covered = blind_shared.sum(-1), blind_covered.sum(-1)  # (choices, T) -> (choices,)
    return {
        "intersection": int(intersection.sum()),
        "union": int(union.sum()),
        "num_objects": len(answer.objects),
        "num_targets": number,
        "chance_intersection": float(shared.mean()),
        "chance_union": float(covered.mean()),
        "chance_iou": float(ratio(shared, covered).mean()),
    }


def overlap_rows(records: Sequence[Record]) -> NDArray[np.float64]:
    """Collect (E, 2): intersection and union, px."""
    return np.array([[r["intersection"], r["union"]] for r in records], float).reshape(-1, 2)


def overlap_figures(
    records: Sequence[Record], name: str, *, ciou_bar: Bar | None = None, giou_bar: Bar | None = None
) -> list[Figure]:
    """Compute cIoU and gIoU, with a random object as baseline."""
    rows = overlap_rows(records)
    blind = [(r["chance_intersection"], r["chance_union"]) for r in records]
    chance = cumulative_iou(blind) if blind else None
    blind_iou = float(np.mean([r["chance_iou"] for r in records])) if records else None
    return [
        measure(f"cIoU, {name}", rows, cumulative_iou, chance=chance, baseline=RANDOM_OBJECT, bar=ciou_bar),
        measure(f"gIoU, {name}", rows, mean_iou, chance=blind_iou, baseline=RANDOM_OBJECT, bar=giou_bar),
    ]


def kind_figures(records: Sequence[Record], kinds: Sequence[str]) -> list[Figure]:
    """Compute cIoU and gIoU per kind of expression."""
    bar = Bar(0.45)
    figures = []
    for kind in kinds:
        figures += overlap_figures([r for r in records if r["kind"] == kind], kind, ciou_bar=bar, giou_bar=bar)
    return figures


def group_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the IoU of the union of all masks, and the share of items with the right number of masks."""
    guess = "random objects of the scene, as many as meant"
    rows, counts = overlap_rows(records), [r["num_targets"] for r in records]
    chance = float(np.mean([r["chance_iou"] for r in records])) if records else None
    right = np.array([r["num_objects"] == r["num_targets"] for r in records], float)
    usual = max(counts.count(count) for count in set(counts)) / len(counts) if counts else None
    return [
        measure("IoU of the union", rows, mean_iou, chance=chance, baseline=guess, bar=Bar(0.65)),
        measure("cIoU of the union", rows, cumulative_iou),
        measure("right number of masks", right, chance=usual, baseline="the most frequent number"),
    ]


def absent_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the recall of present and of absent objects on a balanced set."""
    always = 'always "there"'
    there = np.array([r["said"] for r in records if r["present"]], float)
    rows = np.array([[r["present"], r["said"] == r["present"]] for r in records], float)
    not_there = np.array([not r["said"] for r in records if not r["present"]], float)

    def unseen(present: bool) -> NDArray[np.float64]:
        return np.array([r["said"] == present for r in records if r["unseen"] and r["present"] == present], float)

    return [
        measure('recall of "there"', there, chance=1.0, baseline=always, bar=Bar(0.90)),
        measure('recall of "not there"', not_there, chance=0.0, baseline=always, bar=Bar(0.90)),
        measure('recall of "there", pairs never shown', unseen(True), chance=1.0, baseline=always),
        measure('recall of "not there", pairs never shown', unseen(False), chance=0.0, baseline=always),
        measure("mean of both recalls", rows, mean_of_classes, chance=0.5 if records else None, baseline=always),
    ]


def probe_record(answer: Answer, target: NDArray[np.bool_], present: bool) -> Record:
    """Compare presence and expected IoU of a forced mask with the ground truth.

    Args:
        answer: exactly one object.
        target: (T, H, W), empty if the object is absent.
        present: whether it is there.
    """
    found = answer.objects[0]
    intersection, union = intersection_union(answer.masks[0], target)
    reached = ratio(intersection, union)  # (T,)
    return {
        "present": present,
        "presence": float(found.presence),
        "scores": [float(score) for score in found.scores],
        "ious": [float(value) for value in reached],
    }


def score_rows(records: Sequence[Record]) -> tuple[NDArray[np.float64], list[int]]:
    """Collect (E, 2), expected and actual IoU of every frame, and the picture or clip of each row."""
    pairs = [pair for record in records for pair in zip(record["scores"], record["ious"], strict=True)]
    owners = [owner for owner, record in enumerate(records) for _ in record["scores"]]
    return np.array(pairs, float).reshape(-1, 2), owners


def calibration_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the calibration error of presence over all objects, and of scores over those that are present."""
    sure, bar = "always sure (confidence 1)", Bar(0.05, at_most=True)
    presence = np.array([[r["presence"], r["present"]] for r in records], float)
    scores, owners = score_rows([r for r in records if r["present"]])
    absent = float(np.mean([not r["present"] for r in records])) if records else None
    short = 1 - float(scores[:, 1].mean()) if len(scores) else None
    return [
        measure("calibration error of presence", presence, calibration_error, chance=absent, baseline=sure, bar=bar),
        measure(
            "calibration error of scores",
            scores,
            calibration_error,
            groups=owners,
            chance=short,
            baseline=sure,
            bar=bar,
        ),
    ]
