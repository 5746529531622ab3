"""Score referring video segmentation: J&F over a clip, and over the frames after an object was hidden.

Flow: a benchmark -> track_record per clip -> track_figures over records.
Source: DAVIS (metrics/boundary.py); every frame counts, and a correct empty frame scores 1.
Shapes: M objects of a scene, T frames, H W picture.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Figure, Record, measure
from sa2va.evaluation.referring import RANDOM_OBJECT, choices, score_rows
from sa2va.metrics.boundary import boundary_f, jaccard
from sa2va.metrics.calibration import calibration_error
from sa2va.types import Masks


def track_record(
    answer: Answer, target: NDArray[np.bool_], candidates: Masks, number: int, frames: Sequence[int] = ()
) -> Record:
    """Score the union of the predicted tracks.

    Args:
        answer: any number of tracks.
        target: (T, H, W), the true visible pixels.
        candidates: (M, T, H, W), every object of the clip.
        number: how many of them the expression refers to.
        frames: indices of the frames to score; empty = all.

    Returns:
        J and F, their expectation for `number` random objects, and expected and actual IoU per frame.
    """
    counted = list(frames) or list(range(len(target)))
    pred, target = np.any(answer.masks, axis=0)[counted], target[counted]
    blind = choices(candidates[:, counted], number)
    goal = np.broadcast_to(target, blind.shape)
    regions = jaccard(pred, target)
    record: Record = {
        "j": float(regions.mean()),
        "f": float(boundary_f(pred, target).mean()),
        "num_frames": len(counted),
        "num_objects": len(answer.objects),
        "num_targets": number,
        "chance": float((jaccard(blind, goal).mean() + boundary_f(blind, goal).mean()) / 2),
    }
    if len(answer.objects) == 1:
        record["scores"] = [float(answer.objects[0].scores[frame]) for frame in counted]
        record["ious"] = [float(value) for value in regions]
    return record


def frames_after_gap(track: NDArray[np.bool_]) -> list[int]:
    """List the frames in which an object is visible again after it was hidden: (T, H, W) -> frames."""
    visible = np.any(track, axis=(1, 2))
    seen = np.flatnonzero(visible)
    if not len(seen):
        return []
    hidden = np.flatnonzero(~visible[seen[0] :]) + seen[0]
    return [int(frame) for frame in seen if len(hidden) and frame > hidden[0]]


def track_figure(records: Sequence[Record], name: str, bar: Bar | None = None) -> Figure:
    """Compute J&F of all records, with a random object as baseline."""
    values = np.array([(r["j"] + r["f"]) / 2 for r in records])
    chance = float(np.mean([r["chance"] for r in records])) if records else None
    return measure(name, values, chance=chance, baseline=RANDOM_OBJECT, bar=bar)


def track_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute J&F over all clips and over those whose expression only motion decides; J and F separately."""
    moving = [r for r in records if r["needs_motion"]]
    scored, clips = score_rows([r for r in records if "scores" in r])
    return [
        track_figure(records, "J&F", Bar(0.65)),
        track_figure(moving, "J&F, expressions that only motion decides", Bar(0.50)),
        measure("J", np.array([r["j"] for r in records])),
        measure("F", np.array([r["f"] for r in records])),
        measure("calibration error of scores per frame", scored, calibration_error, groups=clips),
    ]
