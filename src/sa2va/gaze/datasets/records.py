"""Read JSON lists of records, and say where one of them is not what it should be.

Flow: file -> read_records -> refcoco_gaze.py, coco_search18.py.
Shapes: none.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NUMBER = (int, float)
Kinds = Mapping[str, type | tuple[type, ...]]


def find_file(path: Path, pattern: str) -> Path:
    """Find the one file that a path means: the path itself, or what fits the pattern in a folder.

    Args:
        path: a file or a folder.
        pattern: names of files, with * for anything; several behind each other, separated by " or ".

    Raises:
        ValueError: no file, or several, in the folder.
    """
    if not path.is_dir():
        return path
    found = sorted(file for name in pattern.split(" or ") for file in path.glob(name))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path}: expected one file {pattern}, found {names}; give the file itself")
    return found[0]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is not there, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give the file with the fixations") from error
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({str(error).splitlines()[0]}); expected a list of records") from error


def read_records(path: Path, kinds: Kinds) -> list[dict[str, Any]]:
    """Read a list of records and check the fields that are needed.

    Args:
        path: JSON file.
        kinds: field -> type.

    Raises:
        ValueError: not a list of records, or a field that is missing or of another type.
    """
    records = read_json(path)
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path}: expected a list with at least one record, got {type(records).__name__}")
    for number, record in enumerate(records):
        with located(path, number):
            if not isinstance(record, dict):
                raise ValueError(f"expected fields, got {type(record).__name__}")
            for name, kind in kinds.items():
                if name not in record:
                    raise ValueError(f"{name} is missing")
                if not isinstance(record[name], kind):
                    raise ValueError(f"{name} is {record[name]!r:.40}")
    return records


def numbers(record: Mapping[str, Any], name: str) -> list[float]:
    """A list of numbers in a field.

    Raises:
        ValueError: something in it is no number.
    """
    values = record[name]
    if any(isinstance(value, bool) or not isinstance(value, NUMBER) for value in values):
        raise ValueError(f"{name} is {values!r:.40}, expected numbers")
    return [float(value) for value in values]


@contextmanager
def located(path: Path, number: int) -> Generator[None, None, None]:
    """Put file and record in front of a complaint."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: record {number}: {error}") from error
