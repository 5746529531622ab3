"""Read predicted scanpaths of other systems: lists of coordinates, one list per pack.

Flow: a JSON file of {REF_ID, REPEAT_ID, X, Y} -> read_predictions -> packs of each case -> scores.py.
Source: the prediction format of RefCOCO-Gaze's published code, arXiv:2407.19605; px of 512 x 320.
Shapes: K fixations of a pack, S samples of a case.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.datasets.records import check_entries, check_fields, check_places, located, read_records, to_numbers
from sa2va.gaze.letterbox import CANVAS

Packs = list[NDArray[np.float64]]  # before the words, one per word, after them: (K, 2) xy, px of the canvas

FIELDS = {"REF_ID": int, "X": list, "Y": list}
REPEAT_FIELDS = {"REPEAT_ID": int}  # optional


def packs_of(record: Mapping[str, Any]) -> Packs:
    """Read the packs of one scanpath.

    Args:
        record: Lists X and Y, each a list of coordinates per pack.

    Raises:
        ValueError: X or Y is no list, their lengths differ, or a value is no finite number.
    """
    columns, rows = record.get("X"), record.get("Y")
    if not isinstance(columns, list) or not isinstance(rows, list) or len(columns) != len(rows):
        raise ValueError("X and Y: expected two lists of equal length, with one list per pack")
    check_entries(columns, "X")
    packs = []
    for number, (x, y) in enumerate(zip(columns, rows, strict=True)):
        places = to_numbers(x, f"pack {number}: X"), to_numbers(y, f"pack {number}: Y")
        if len(places[0]) != len(places[1]):
            raise ValueError(f"pack {number}: {len(places[0])} X and {len(places[1])} Y, expected equal counts")
        packs.append(np.array(places, float).T.reshape(-1, 2))
    check_entries(range(sum(map(len, packs))), "X")
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
    numbered: set[tuple[int, int]] = set()
    for number, record in enumerate(read_records(path, FIELDS)):
        with located(path, number):
            packs = packs_of(record)
            if not packs:
                raise ValueError("X has no packs, expected one before the words, one per word and one after")
            check_places(np.concatenate(packs), CANVAS)
            samples.setdefault(str(record["REF_ID"]), []).append((_repeat_of(record, numbered), packs))
    return {case: [packs for _, packs in sorted(rows, key=lambda row: row[0])] for case, rows in samples.items()}


def _repeat_of(record: Mapping[str, Any], numbered: set[tuple[int, int]]) -> int:
    """Return the sample's REPEAT_ID, or 0 without one, and add it to `numbered`.

    Raises:
        ValueError: the REPEAT_ID is already in `numbered`.
    """
    if "REPEAT_ID" not in record:
        return 0
    check_fields(record, REPEAT_FIELDS)
    pair = record["REF_ID"], record["REPEAT_ID"]
    if pair in numbered:
        raise ValueError(f"REF_ID {pair[0]} with REPEAT_ID {pair[1]} occurs twice; number the samples of a case")
    numbered.add(pair)
    return pair[1]
