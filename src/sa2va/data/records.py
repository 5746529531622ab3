"""Read annotation files into records with typed fields, whose errors name file, record and reason.

Flow: annotation file -> read_annotations -> Record, one per picture, clip or expression -> a dataset of data/.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sa2va.files.json_file import iterate_json_list, read_json_value
from sa2va.files.read_limits import MAX_DATA_BYTES, read_bounded

MAX_ANNOTATION_BYTES = 8 * 2**30  # the mask file of a public video dataset has 1 to 2 GB
KIND_NAMES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
    object: "a value",
}

T = TypeVar("T")
_REQUIRED: Any = object()


class Record:
    """A JSON object of an annotation file, with its place there.

    Attributes:
        values: fields of the object.
        file: annotation file.
        name: place of the record in the file, as in "record 3" or "video ab12, expression 0".
    """

    __slots__ = ("file", "name", "values")

    FILE = "file"  # name of the record that is the whole file; its children are named without it

    def __init__(self, values: Any, file: Path, name: str) -> None:
        self.file, self.name = file, name
        if not isinstance(values, dict):
            raise self.error(f"it is {_short(values)}; expected an object")
        self.values: dict[str, Any] = values

    def error(self, reason: str) -> ValueError:
        """Return the error to raise for this record: file, record and reason in one line."""
        place = "" if self.name == self.FILE else f"{self.name}: "
        return ValueError(f"{self.file}: {place}{reason}")

    def get(self, key: str, kind: type[T], default: Any = _REQUIRED) -> T:
        """Return a field of a given type; `float` also admits whole numbers.

        Raises:
            ValueError: the field is missing and has no default, or has another type.
        """
        value = self.values.get(key, default)
        if value is _REQUIRED:
            raise self.error(f"it has no field {key!r}; expected {KIND_NAMES.get(kind, kind.__name__)}")
        if value is default and key not in self.values:
            return value
        admitted = (int, float) if kind is float else kind
        if not isinstance(value, admitted) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"{key} is {_short(value)}; expected {KIND_NAMES.get(kind, kind.__name__)}")
        return value

    def text(self, key: str) -> str:
        """Return a text that is not blank, without spaces around it.

        Raises:
            ValueError: the field is missing, blank or no text.
        """
        text = self.get(key, str).strip()
        if not text:
            raise self.error(f"{key} is empty; expected a text")
        return text

    def size(self, height: str = "height", width: str = "width") -> tuple[int, int]:
        """Return the (H, W) px of two fields, both at least 1.

        Raises:
            ValueError: a field is missing or below 1.
        """
        sides = self.get(height, int), self.get(width, int)
        if min(sides) < 1:
            raise self.error(f"{height} and {width} are {sides[0]} and {sides[1]}; expected at least 1 px")
        return sides

    def children(self, key: str, noun: str) -> "list[Record]":
        """Return a list of objects as records, named by noun and place: "record 3, annotation 0".

        Raises:
            ValueError: the field is no list of objects.
        """
        return [self._child(one, f"{noun} {i}") for i, one in enumerate(self.get(key, list))]

    def named_children(self, key: str, noun: str) -> "Iterator[tuple[str, Record]]":
        """Yield the members of an object as (key, record), named by noun and key: "video ab12, expression 0".

        Raises:
            ValueError: the field is no object of objects.
        """
        for name, one in self.get(key, dict).items():
            yield name, self._child(one, f"{noun} {name}")

    def _child(self, values: Any, name: str) -> "Record":
        return Record(values, self.file, name if self.name == self.FILE else f"{self.name}, {name}")


def read_annotations(path: Path, fallback: str | None = None) -> Any:
    """Read a JSON annotation file of up to MAX_ANNOTATION_BYTES, in UTF-8 or else in the encoding `fallback`.

    Raises:
        ValueError: the file is missing, not JSON or too large.
    """
    return read_json_value(path, MAX_ANNOTATION_BYTES, fallback)


def read_object(path: Path, fallback: str | None = None) -> Record:
    """Read an annotation file that holds one object; its children are named without a prefix.

    Raises:
        ValueError: as `read_annotations`, or it holds no object.
    """
    return Record(read_annotations(path, fallback), path, Record.FILE)


def iterate_records(path: Path, noun: str = "record") -> Iterator[Record]:
    """Yield the objects of an annotation file that holds a list, named by noun and place: "record 3".

    They are parsed one by one, because all of them together take several times the memory of the file.

    Raises:
        ValueError: as `read_annotations`, or it holds no list of objects, or none at all.
    """
    number = -1
    for number, one in enumerate(iterate_json_list(path, MAX_ANNOTATION_BYTES)):
        yield Record(one, path, f"{noun} {number}")
    if number < 0:
        raise ValueError(f"{path}: it holds an empty list; expected a list of records")


def read_table(path: Path, columns: Sequence[str]) -> list[Record]:
    """Read a table of texts: CSV with a first line of column names, or a JSON list of objects (.json).

    Args:
        path: the file.
        columns: the names that the first line of CSV must hold.

    Raises:
        ValueError: the file is missing, malformed or too large, or a column is missing.
    """
    if path.suffix == ".json":
        return list(iterate_records(path, "row"))
    try:
        text = read_bounded(path, MAX_DATA_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = [Record(values, path, f"line {reader.line_num}") for values in reader]
    except (UnicodeError, csv.Error) as error:
        raise ValueError(f"{path}: it is not a table of comma-separated text in UTF-8 ({error})") from None
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: it has no column {missing[0]!r}; expected a first line {','.join(columns)}")
    for row in rows:
        if None in row.values:
            raise row.error("it has more columns than the first line; put an expression with a comma in double quotes")
    return rows


def index_by(records: Sequence[Record], key: str) -> dict[Any, Record]:
    """Index records by a field that is a whole number or a text.

    Raises:
        ValueError: two records have the same value, or it is neither.
    """
    found = group_by(records, key)
    for value, (first, *others) in found.items():
        if others:
            raise others[0].error(f"{key} {value!r} is also that of {first.name}; expected distinct ones")
    return {value: first for value, (first,) in found.items()}


def group_by(records: Iterable[Record], key: str) -> dict[Any, list[Record]]:
    """Group records by a field that is a whole number or a text.

    Raises:
        ValueError: the field is neither.
    """
    found: dict[Any, list[Record]] = {}
    for record in records:
        value = record.get(key, object)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise record.error(f"{key} is {_short(value)}; expected a whole number or a text")
        found.setdefault(value, []).append(record)
    return found


def _short(value: object) -> str:
    return f"{value!r:.60}"
