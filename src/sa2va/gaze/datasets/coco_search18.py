"""Read COCO-Search18: people look for an object of a category that was named before the picture appeared.

Flow: coco_search18_fixations_*.json (1680 x 1050, or a 512 x 320 version) -> Trial; all fixations lie in the pack
    after the words, which are the category.
Source: Chen et al., Scientific Reports 2021. Only durations are recorded, so a start is the sum of those before;
    published files mix both sizes (the target-absent test split is 1680 x 1050, others are 512 x 320).
Shapes: K fixations.
"""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from sa2va.gaze.datasets.records import check_places, located, numbers, read_records
from sa2va.gaze.datasets.refcoco_gaze import read_box
from sa2va.gaze.letterbox import CANVAS, SCREEN
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.trial import Trial

FIELDS = {
    "name": str, "subject": int, "task": str, "condition": str, "X": list, "Y": list, "T": list, "correct": (int, bool),
}  # fmt: skip


def read_coco_search18(path: Path, size: tuple[int, int] | None = None) -> list[Trial]:
    """Read one file of trials.

    Args:
        path: the JSON file.
        size: width and height of the stimulus, px; None takes 512 x 320 when every fixation of the file fits it.

    Raises:
        ValueError: naming the file and the record.
    """
    records = read_records(path, FIELDS)
    rows = []
    for number, record in enumerate(records):
        with located(path, number):
            rows.append(timed_by_duration(numbers(record, "X"), numbers(record, "Y"), numbers(record, "T")))
    if size is None:
        places = [fixation for row in rows for fixation in row]
        size = CANVAS if all(one.x <= CANVAS[0] and one.y <= CANVAS[1] for one in places) else SCREEN
    trials = []
    for number, (record, fixations) in enumerate(zip(records, rows, strict=True)):
        with located(path, number):
            trials.append(_read_trial(record, fixations, size))
    return trials


def _read_trial(record: Mapping[str, Any], fixations: list[Fixation], size: tuple[int, int]) -> Trial:
    if record["condition"] not in ("present", "absent"):
        raise ValueError(f"condition is {record['condition']!r}, expected present or absent")
    present = record["condition"] == "present"
    words = record["task"].split()
    indices = [len(words) + 1] * len(fixations)
    scanpath = Scanpath.from_packs(fixations, indices, words, width=size[0], height=size[1], image=record["name"])
    check_places(scanpath.points, size)
    return Trial(
        scanpath=scanpath,
        case=f"{record['condition']}/{record['task']}/{record['name']}",
        subject=str(record["subject"]),
        expression=record["task"],
        target=read_box(record, "bbox", size) if present and record.get("bbox") else None,
        correct=bool(record["correct"]),
    )


def timed_by_duration(x: list[float], y: list[float], durations: list[float]) -> list[Fixation]:
    """Fixations of a recording without starts: each begins where the one before ends."""
    if not len(x) == len(y) == len(durations):
        raise ValueError(f"{len(x)} x, {len(y)} y and {len(durations)} durations, expected as many")
    starts = accumulate(durations, initial=0.0)
    return [Fixation(*values) for values in zip(x, y, starts, durations, strict=False)]
