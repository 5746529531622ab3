"""Read OSIE: free viewing of an image for three seconds.

Flow: fixations.mat as published, or a JSON file of the same content -> Trial; all fixations are in the last pack.
Source: Xu et al., Journal of Vision 2014; MIT license. Onsets are cumulative sums of the durations.
Shapes: K fixations.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io.matlab import MatReadError

from sa2va.gaze.datasets.archives import read_mat
from sa2va.gaze.datasets.coco_search18 import timed_by_duration
from sa2va.gaze.datasets.records import check_fields, check_places, located, number, numbers, read_json
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial

SIZE = (800, 600)  # px, of every image
PICTURE_FIELDS = {"width": int, "height": int, "scanpaths": list}
SCANPATH_FIELDS = {"subject": (int, str), "x": list, "y": list, "duration": list}
# Errors of reading a damaged MATLAB file, or one of another layout.
BROKEN = (KeyError, ValueError, TypeError, IndexError, NotImplementedError, MatReadError, MemoryError, zlib.error)


def read_osie(path: Path) -> list[Trial]:
    """Read all scanpaths.

    Args:
        path: fixations.mat, or JSON {"images": {name: {"width", "height", "scanpaths": [{"subject", "x", "y",
            "duration"}]}}}; px and ms.

    Raises:
        ValueError: naming the file and the image.
    """
    trials = []
    for name, picture in _read_mat(path) if path.suffix == ".mat" else _read_json(path):
        with located(path, name, "picture"):
            check_fields(picture, PICTURE_FIELDS)
        for place, record in enumerate(picture["scanpaths"]):
            with located(path, f"{name}, scanpath {place}", "picture"):
                trials.append(_read_trial(name, picture, record))
    if not trials:
        raise ValueError(f"{path}: no scanpaths in it, expected at least one")
    return trials


def _read_trial(name: str, picture: dict[str, Any], record: Any) -> Trial:
    check_fields(record, SCANPATH_FIELDS)
    size = int(number(picture, "width")), int(number(picture, "height"))
    fixations = timed_by_duration(*(numbers(record, key) for key in ("x", "y", "duration")))
    indices = [1] * len(fixations)
    scanpath = Scanpath.from_packs(fixations, indices, [], width=size[0], height=size[1], image=name)
    check_places(scanpath.points, size)
    return Trial(scanpath=scanpath, case=name, subject=str(record["subject"]))


def _read_json(path: Path) -> list[tuple[str, Any]]:
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, dict):
        raise ValueError(
            f'{path}: expected {{"images": {{name: ...}}}} with width, height and scanpaths of each picture'
        )
    return list(images.items())


def _read_mat(path: Path) -> list[tuple[str, Any]]:
    try:
        cells = read_mat(path)["fixations"]
        width, height = SIZE
        return [
            (str(cell["img"]), {"width": width, "height": height, "scanpaths": _read_subjects(cell["subjects"])})
            for cell in cells
        ]
    except BROKEN as error:
        reason = " ".join(str(error).split()).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {reason}; expected the MATLAB file fixations.mat of OSIE") from error


def _read_subjects(records: Any) -> list[dict[str, Any]]:
    columns = {"x": "fix_x", "y": "fix_y", "duration": "fix_duration"}
    return [
        {"subject": person}
        | {name: np.atleast_1d(record[field]).astype(float).tolist() for name, field in columns.items()}
        for person, record in enumerate(records)
    ]
