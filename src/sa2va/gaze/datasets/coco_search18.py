"""Read COCO-Search18: visual search for an object category named before the image appears.

Flow: coco_search18_fixations_*.json (1680 x 1050, or a 512 x 320 version) -> Trial; all fixations are in the pack
    after the words, which name the category.
Source: Chen et al., Scientific Reports 2021. Only durations are recorded, so onsets are their cumulative sums.
    Published files mix both sizes: the target-absent test split is 1680 x 1050, others are 512 x 320, and in some files
    boxes and fixations refer to different sizes.
Shapes: K fixations.
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from sa2va.gaze.datasets.records import check_places, is_finite, located, numbers, read_records
from sa2va.gaze.datasets.refcoco_gaze import read_box
from sa2va.gaze.letterbox import CANVAS, SCREEN
from sa2va.gaze.metrics.target import Box, inside_box
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.trial import Trial

FIELDS = {
    "name": str, "subject": int, "task": str, "condition": str, "X": list, "Y": list, "T": list, "correct": (int, bool),
}  # fmt: skip
NEARLY_ALL = 0.95  # share of fixations inside 512 x 320 px that identifies a file of this size


def read_coco_search18(path: Path, size: tuple[int, int] | None = None) -> list[Trial]:
    """Read one file of trials.

    Published target-present files end scanpaths at the first fixation on the target but keep all durations; surplus
    durations are dropped. Boxes in px of the other published size are converted to that of the fixations. Both cases
    give a warning.

    Args:
        path: The JSON file.
        size: Width and height of the stimulus, px; None = 512 x 320 if nearly all fixations of the file fit (some lie
            beside the screen), else 1680 x 1050.

    Raises:
        ValueError: naming the file and the record.
    """
    records = read_records(path, FIELDS)
    rows, num_cut = [], 0
    for number, record in enumerate(records):
        with located(path, number):
            x, y, durations = (numbers(record, name) for name in ("X", "Y", "T"))
            is_cut = len(x) == len(y) < len(durations)
            rows.append(timed_by_duration(x, y, durations[: len(x)] if is_cut else durations))
            num_cut += is_cut
    if num_cut:
        warnings.warn(
            f"{path}: {num_cut} of {len(records)} scanpaths have more durations than fixations; dropped the surplus",
            stacklevel=2,
        )
    if size is None:
        size = _size_of([fixation for row in rows for fixation in row])
    drawn = _size_of_boxes(records, rows, size)
    if drawn != size:
        given, wanted = (f"{width} x {height}" for width, height in (drawn, size))
        warnings.warn(f"{path}: converted boxes from {given} px to the {wanted} px of the fixations", stacklevel=2)
    trials = []
    for number, (record, fixations) in enumerate(zip(records, rows, strict=True)):
        with located(path, number):
            trials.append(_read_trial(record, fixations, size, drawn))
    return trials


def _size_of(fixations: Sequence[Fixation]) -> tuple[int, int]:
    """Infer the stimulus size from all fixations of a file: the center of SCREEN lies outside CANVAS."""
    inside = sum(one.x <= CANVAS[0] and one.y <= CANVAS[1] for one in fixations)
    return CANVAS if inside >= NEARLY_ALL * len(fixations) else SCREEN


def _size_of_boxes(
    records: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Fixation]], size: tuple[int, int]
) -> tuple[int, int]:
    """Infer the size that a file's boxes refer to: the one at which more correct trials fixate their box."""
    if size not in (CANVAS, SCREEN):
        return size
    other = SCREEN if size == CANVAS else CANVAS
    found = [
        (record["bbox"], np.array([(one.x, one.y) for one in row]))
        for record, row in zip(records, rows, strict=True)
        if record["correct"] and row and _is_box(record.get("bbox"))
    ]
    hits = {
        drawn: sum(bool(inside_box(points, _scaled(box, drawn, size)).any()) for box, points in found)
        for drawn in (size, other)
    }
    return other if hits[other] > hits[size] else size


def _is_box(value: Any) -> bool:
    """Tell whether a value is a list of four numbers; `_read_trial` reports other values."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value))


def _scaled(box: Sequence[float], drawn: tuple[int, int], size: tuple[int, int]) -> Box:
    """Convert left, top, width, height to x0, y0, x1, y1, and scale them to another size of the same aspect ratio."""
    left, top, width, height = (float(value) * size[0] / drawn[0] for value in box)
    return left, top, left + width, top + height


def _read_trial(
    record: Mapping[str, Any], fixations: list[Fixation], size: tuple[int, int], drawn: tuple[int, int]
) -> Trial:
    if record["condition"] not in ("present", "absent"):
        raise ValueError(f"condition is {record['condition']!r}, expected present or absent")
    words = record["task"].split()
    indices = [len(words) + 1] * len(fixations)
    scanpath = Scanpath.from_packs(fixations, indices, words, width=size[0], height=size[1], image=record["name"])
    check_places(scanpath.points, size)
    target = None
    if record["condition"] == "present" and record.get("bbox"):
        read_box(record, "bbox", drawn)  # checks the size
        target = _scaled(record["bbox"], drawn, size)
    return Trial(
        scanpath=scanpath,
        case=f"{record['condition']}/{record['task']}/{record['name']}",
        subject=str(record["subject"]),
        expression=record["task"],
        target=target,
        correct=bool(record["correct"]),
    )


def timed_by_duration(x: list[float], y: list[float], durations: list[float]) -> list[Fixation]:
    """Build fixations from durations alone; each begins at the end of the previous one."""
    if not len(x) == len(y) == len(durations):
        raise ValueError(f"{len(x)} x, {len(y)} y and {len(durations)} durations, expected equal counts")
    starts = accumulate(durations, initial=0.0)
    return [Fixation(*values) for values in zip(x, y, starts, durations, strict=False)]
