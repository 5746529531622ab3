"""Read what other systems predicted: scanpaths as lists of pixels, one list per pack.

Flow: a JSON file of {REF_ID, REPEAT_ID, X, Y} -> read_predictions -> packs of each case -> scores.py.
Source: the format that the published code of RefCOCO-Gaze reads, arXiv:2407.19605; px of 512 x 320.
Shapes: K fixations of a pack, S samples of a case.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.datasets.records import located, read_records
from sa2va.gaze.letterbox import CANVAS

Packs = list[NDArray[np.float64]]  # before the words, one per word, after them: (K, 2) xy, px of the canvas

FIELDS = {"REF_ID": int, "X": list, "Y": list}


def packs_of(record: Mapping[str, Any]) -> Packs:
    """Read the packs of one scanpath.

    Args:
        record: with lists X and Y, each a list of coordinates per pack.

    Raises:
        ValueError: no lists, not as many in both, or something that is no finite number.
    """
    columns, rows = record.get("X"), record.get("Y")
    if not isinstance(columns, list) or not isinstance(rows, list) or len(columns) != len(rows):
        raise ValueError("X and Y: expected a list per pack in both, as many in one as in the other")
    packs = []
    for number, (x, y) in enumerate(zip(columns, rows, strict=True)):
        if not isinstance(x, list) or not isinstance(y, list):
            raise ValueError(f"pack {number}: X is {x!r:.40}, expected a list of coordinates per pack")
        try:
            points = np.array([x, y], float).T.reshape(-1, 2)
        except (TypeError, ValueError) as error:
            raise ValueError(f"pack {number}: X {x!r:.40} and Y {y!r:.40}, expected as many numbers") from error
        if not np.isfinite(points).all():
            raise ValueError(f"pack {number}: X {x!r:.40} and Y {y!r:.40}, expected finite numbers")
        packs.append(points)
    return packs


def read_predictions(path: Path) -> dict[str, list[Packs]]:
    """Read a file of predictions.

    Args:
        path: JSON list; several records of one REF_ID are several samples.

    Returns:
        Case -> S samples, in the order of REPEAT_ID where there is one.

    Raises:
        ValueError: naming the file and the record.
    """
    samples: dict[str, list[tuple[int, Packs]]] = {}
    for number, record in enumerate(read_records(path, FIELDS)):
        with located(path, number):
            packs = packs_of(record)
            if not packs:
                raise ValueError("X has no packs, expected one before the words, one per word and one after")
            places = np.concatenate(packs)
            if (np.abs(places - np.array(CANVAS) / 2) > 2 * np.array(CANVAS)).any():
                x, y = places[np.abs(places - np.array(CANVAS) / 2).max(1).argmax()]
                raise ValueError(f"a fixation at {x:g}, {y:g} px lies far off {CANVAS[0]} x {CANVAS[1]}, the canvas")
            repeat = record.get("REPEAT_ID", 0)
            if isinstance(repeat, bool) or not isinstance(repeat, int):
                raise ValueError(f"REPEAT_ID is {repeat!r:.40}, expected a whole number")
            samples.setdefault(str(record["REF_ID"]), []).append((repeat, packs))
    return {case: [packs for _, packs in sorted(rows, key=lambda row: row[0])] for case, rows in samples.items()}
