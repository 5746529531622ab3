"""Keep the results of a long run in an append-only file, so that an interrupted run goes on where it stopped.

Flow: evaluation and bulk work ask `done(key)` before each item and `append(key, record)` after it; a second run
    with the same file skips what is there. The key is the hash of what the result depends on (content_key).
Source: write-ahead logs; the file is JSON Lines (https://jsonlines.org), {"key": ..., "record": ...} a line.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

import numpy as np

KEY_LETTERS = 32  # 128 bits: no two items of any run will meet


def content_key(content: Any) -> str:
    """Hash whatever a result depends on: model, options, sample.

    Args:
        content: JSON-like values, besides paths, dataclasses, sets, bytes and numpy arrays. Order counts in lists and
            not in mappings or sets; a list and a tuple are the same.

    Returns:
        KEY_LETTERS hexadecimal digits, the same in every process and on every machine.

    Raises:
        TypeError: a value has no stable content, such as a function.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_canonical)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LETTERS]


class Journal:
    """An append-only file of records by key.

    Each record is one write, so an interruption can harm the last line only; such a rest is dropped at the next
    append. Several processes may append to one file; each sees the others' records when it opens it anew. Only
    the places of the records are held in memory.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a journal; the file is made by the first append.

        Raises:
            ValueError: a line other than the last is not a record, so the file is something else or was edited.
        """
        self.path = Path(path)
        self._places: dict[str, int] = {}  # key -> byte offset of its latest line
        self._sound = 0  # bytes up to the end of the last whole line
        self._descriptor: int | None = None
        if self.path.exists():
            self._index()

    def done(self, key: str) -> bool:
        """Tell whether there is a record for this key."""
        return key in self._places

    def get(self, key: str) -> Any:
        """Return the latest record of a key, or None where there is none."""
        place = self._places.get(key)
        if place is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            return json.loads(file.readline())["record"]

    def append(self, key: str, record: Any) -> None:
        """Write a record; it is safe from an interruption of this process when the call returns.

        Args:
            key: what to find it by; a later record with the same key takes the place of an earlier one.
            record: JSON-like; numpy numbers and arrays become numbers and lists.
        """
        line = json.dumps({"key": key, "record": record}, ensure_ascii=False, default=_plain).encode() + b"\n"
        if self._descriptor is None:
            self._descriptor = self._open_for_append()
        written = os.write(self._descriptor, line)
        if written != len(line):
            raise OSError(f"{self.path}: only {written} of {len(line)} bytes could be written; is the disk full?")
        self._places[key] = os.lseek(self._descriptor, 0, os.SEEK_CUR) - len(line)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (key, latest record) in the order of the file."""
        if not self._places:
            return
        with self.path.open("rb") as file:
            for key, place in sorted(self._places.items(), key=lambda item: item[1]):
                file.seek(place)
                yield key, json.loads(file.readline())["record"]

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return self.done(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _index(self) -> None:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # an interrupted write
                key = _key_of(line)
                if key is None:
                    raise ValueError(f'{self.path}:{number}: expected {{"key": ..., "record": ...}}; use another file')
                self._places[key] = self._sound
                self._sound += len(line)

    def _open_for_append(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        # Another process may have appended since we looked, so only a rest without a line end is cut off.
        size = os.fstat(descriptor).st_size
        if size > self._sound:
            rest = os.pread(descriptor, size - self._sound, self._sound)
            os.ftruncate(descriptor, self._sound + rest.rfind(b"\n") + 1)
        return descriptor


def _key_of(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if isinstance(entry, dict) and entry.keys() == {"key", "record"} and isinstance(entry["key"], str):
        return entry["key"]
    return None


def _plain(value: Any) -> Any:
    """Turn numpy values into what JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a record of type {type(value).__name__} cannot be written as JSON")


def _canonical(value: Any) -> Any:
    """Turn what JSON does not know into a value that stands for its content."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": value.dtype.str, "shape": value.shape, "sha256": digest}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    raise TypeError(f"a value of type {type(value).__name__} has no stable content to make a key of")
