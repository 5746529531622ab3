"""Read and validate JSON lists of records, with errors that name the file and the record.

Flow: file -> read_records -> refcoco_gaze.py, coco_search18.py; read_json, check_fields -> osie.py.
"""

import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sa2va.files.read_limits import MAX_DATA_BYTES, read_bounded

MAX_ENTRIES = 10_000  # of a list in a record; about one hour of fixations
NUMBER = (int, float)
CALLED: dict[type, str] = {int: "a whole number", str: "text", list: "a list", bool: "true or false"}
Kinds = Mapping[str, type | tuple[type, ...]]


def find_file(path: Path, pattern: str) -> Path:
    """Resolve a path to one file: the path itself, or the file that matches a pattern in a folder.

    Args:
        path: A file or a folder.
        pattern: Glob patterns separated by " or ".

    Raises:
        ValueError: no file, or several files, in the folder match.
    """
    if not path.is_dir():
        return path
    found = sorted(file for name in pattern.split(" or ") for file in path.glob(name))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path}: expected one file {pattern}, found {names}; give the file itself")
    return found[0]


def read_data(path: Path, expected: str) -> bytes:
    """Read a data file.

    Args:
        path: The file.
        expected: Expected format, for the error message.

    Raises:
        ValueError: not a regular file of at most MAX_DATA_BYTES.
    """
    try:
        return read_bounded(path, MAX_DATA_BYTES)
    except ValueError as error:
        raise ValueError(f"{error}; expected {expected}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is missing, not regular, larger than MAX_DATA_BYTES, or no JSON.
    """
    content = read_data(path, "JSON with a list of records")
    try:
        return json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({str(error).splitlines()[0]}); expected a list of records") from error
    except RecursionError as error:
        raise ValueError(f"{path}: brackets are nested too deeply; expected a list of records") from error


def read_records(path: Path, kinds: Kinds) -> list[dict[str, Any]]:
    """Read a list of records and check their required fields.

    Args:
        path: JSON file.
        kinds: Field -> type.

    Raises:
        ValueError: not a list of records, or a required field is missing or of another type.
    """
    records = read_json(path)
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path}: expected a list with at least one record, got {type(records).__name__}")
    for number, record in enumerate(records):
        with located(path, number):
            check_fields(record, kinds)
    return records


def check_fields(record: Any, kinds: Kinds) -> None:
    """Check the required fields of a record.

    Raises:
        ValueError: no record, or a field is missing or of another type; true and false are no numbers.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected fields, got {type(record).__name__}")
    for name, kind in kinds.items():
        if name not in record:
            raise ValueError(f"{name} is missing")
        value, allowed = record[name], kind if isinstance(kind, tuple) else (kind,)
        if isinstance(value, list):
            check_entries(value, name)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            expected = "a number" if kind == NUMBER else " or ".join(CALLED[one] for one in allowed)
            raise ValueError(f"{name} is {value!r:.40}, expected {expected}")


def check_entries(values: Sequence[Any], name: str) -> None:
    """Check the length of a list.

    Raises:
        ValueError: more than MAX_ENTRIES entries.
    """
    if len(values) > MAX_ENTRIES:
        raise ValueError(f"{name} has {len(values)} entries, expected at most {MAX_ENTRIES} per scanpath")


def numbers(record: Mapping[str, Any], name: str) -> list[float]:
    """Read a field as a list of numbers.

    Raises:
        ValueError: no list, or an entry is no finite number.
    """
    return to_numbers(record[name], name)


def to_numbers(values: Any, name: str) -> list[float]:
    """Convert a list of a file to floats.

    Args:
        values: The list.
        name: Name of the list, for the error message.

    Raises:
        ValueError: no list, or an entry is no finite number.
    """
    if isinstance(values, list):
        check_entries(values, name)
    if not isinstance(values, list) or not all(is_finite(value) for value in values):
        raise ValueError(f"{name} is {values!r:.40}, expected a list of finite numbers")
    return [float(value) for value in values]


def number(record: Mapping[str, Any], name: str) -> float:
    """Read a field as a number.

    Raises:
        ValueError: no finite number.
    """
    if not is_finite(record[name]):
        raise ValueError(f"{name} is {record[name]!r:.40}, expected a finite number")
    return float(record[name])


def check_places(points: ArrayLike, size: tuple[int, int]) -> None:
    """Check that points are near the stimulus: distant ones have a wrong unit. Points beside it are valid.

    Args:
        points: (K, 2) xy, px.
        size: Width and height of the stimulus, px.

    Raises:
        ValueError: a point is more than twice the stimulus size from its center.
    """
    places = np.asarray(points, float).reshape(-1, 2)
    far = (np.abs(places - np.array(size) / 2) > 2 * np.array(size)).any(1)
    if far.any():
        x, y = places[far][0]
        raise ValueError(
            f"a fixation at {x:g}, {y:g} px is far outside {size[0]} x {size[1]} px; give positions in px of this size"
        )


def is_finite(value: Any) -> bool:
    """Tell whether a value is a finite number; true and false are not."""
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


@contextmanager
def located(path: Path, name: int | str, kind: str = "record") -> Generator[None, None, None]:
    """Prefix errors with the file and the record or other part of it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {kind} {name}: {error}") from error
