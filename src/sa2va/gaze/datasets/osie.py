"""Read OSIE: people look at a picture for three seconds, nothing is asked.

Flow: fixations.mat as published, or a JSON file of the same content -> Trial; all fixations lie in the last pack.
Source: Xu et al., Journal of Vision 2014; MIT license. A start is the sum of the durations before.
Shapes: K fixations.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from sa2va.gaze.datasets.coco_search18 import timed_by_duration
from sa2va.gaze.datasets.records import located, numbers, read_json
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial

SIZE = (800, 600)  # px, of every picture


def read_osie(path: Path) -> list[Trial]:
    """Read all scanpaths.

    Args:
        path: fixations.mat, or JSON {"images": {name: {"width", "height", "scanpaths": [{"subject", "x", "y",
            "duration"}]}}}; px and ms.

    Raises:
        ValueError: naming the file and the picture.
    """
    pictures = _read_mat(path) if path.suffix == ".mat" else _read_json(path)
    trials = []
    for number, (name, size, scanpaths) in enumerate(pictures):
        with located(path, number):
            for record in scanpaths:
                columns = [numbers(record, key) for key in ("x", "y", "duration")]
                fixations = timed_by_duration(*columns)
                path_over = Scanpath.from_packs(
                    fixations, [1] * len(fixations), [], width=size[0], height=size[1], image=name
                )
                trials.append(Trial(scanpath=path_over, case=name, subject=str(record["subject"])))
    return trials


Picture = tuple[str, tuple[int, int], list[dict[str, Any]]]  # name, width and height, scanpaths


def _read_json(path: Path) -> list[Picture]:
    try:
        images = read_json(path)["images"]
        return [(name, (image["width"], image["height"]), image["scanpaths"]) for name, image in images.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected images with width, height and scanpaths ({error})") from error


def _read_mat(path: Path) -> list[Picture]:
    try:
        cells = loadmat(path, simplify_cells=True)["fixations"]
        return [(cell["img"], SIZE, [_read_subject(*pair) for pair in enumerate(cell["subjects"])]) for cell in cells]
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: expected the MATLAB file fixations.mat of OSIE ({error})") from error


def _read_subject(number: int, record: dict[str, Any]) -> dict[str, Any]:
    columns = {"x": "fix_x", "y": "fix_y", "duration": "fix_duration"}
    lists = {name: np.atleast_1d(record[field]).astype(float).tolist() for name, field in columns.items()}
    return {"subject": number, **lists}
