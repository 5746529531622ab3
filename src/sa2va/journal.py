"""Store the results of a long run in an append-only file, so that an interrupted run can resume.

Flow: a run asks `done(key)` before each item and calls `append(key, record)` after it. A second run with the same
    file skips the items it holds. The key is a hash of everything the result depends on (content_key).
Source: write-ahead logging; JSON Lines (https://jsonlines.org), one {"key": ..., "record": ...} per line.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np

from sa2va.files.atomic import CannotWrite, refusals

_BEGIN = b'{"key": "'  # start of every line
_BLOCK = 4096  # bytes per step of the search for the last line end
KEY_LETTERS = 32  # 128 bits, enough to rule out collisions


def content_key(content: Any) -> str:
    """Hash everything that a result depends on: model, options, sample.

    Args:
        content: JSON-like values, paths, dataclasses, sets, bytes and NumPy arrays. Order matters in lists, but not in
            mappings and sets. Lists and tuples are the same.

    Returns:
        KEY_LETTERS hexadecimal digits, the same in every process and on every machine.

    Raises:
        TypeError: a value without stable content, such as a function.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_canonical)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LETTERS]


class Journal:
    """An append-only file of records by key.

    Several threads and processes may append to one file: each write holds the file lock, and a process sees the records
    of others when it opens the file again. A killed process can leave a partial last line; the next append removes it.
    Only the offsets of the records are held in memory.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a journal; the first append creates the file.

        Raises:
            ValueError: a complete line is not a record, or a partial last line does not begin like one.
        """
        self.path = Path(path)
        self._places: dict[str, int] = {}  # key -> byte offset of its latest line
        self._descriptor: int | None = None
        self._writing = Lock()  # of the threads of this process, which share the lock of the file
        if self.path.is_file():
            self._index()
        elif self.path.exists():
            raise ValueError(f"{self.path}: exists and is not a file; move it away or choose another folder")

    def done(self, key: str) -> bool:
        """Return whether there is a record for a key."""
        return key in self._places

    def get(self, key: str) -> Any:
        """Return the latest record of a key, None if there is none."""
        place = self._places.get(key)
        if place is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            return json.loads(file.readline())["record"]

    def append(self, key: str, record: Any) -> None:
        """Write a record; once the call returns, a killed process does not lose it.

        Args:
            key: a later record with the same key replaces an earlier one.
            record: JSON-like; NumPy numbers and arrays become numbers and lists.

        Raises:
            ValueError: the file system has no locks, or the disk refuses the record.
        """
        self.append_all([(key, record)])

    def append_all(self, records: Sequence[tuple[str, Any]]) -> None:
        """Write records (key, record) in one piece; otherwise as `append`."""
        lines = [
            json.dumps({"key": key, "record": record}, ensure_ascii=False, default=_plain).encode() + b"\n"
            for key, record in records
        ]
        text = b"".join(lines)
        with self._writing, refusals(self.path):
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            with _locked(self._descriptor, self.path):
                place = _drop_rest(self._descriptor)
                try:
                    written = os.write(self._descriptor, text)
                    if written != len(text):
                        raise CannotWrite(self.path, f"only {written} of {len(text)} bytes written")
                except BaseException:
                    os.ftruncate(self._descriptor, place)
                    raise
            for (key, _), line in zip(records, lines, strict=True):
                self._places[key] = place
                place += len(line)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _index(self) -> None:
        place = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                begins = line.startswith(_BEGIN) or _BEGIN.startswith(line)
                if begins and not line.endswith(b"\n"):
                    return  # left by a killed process, or being written by another one
                key = _key_of(line)
                if key is None or not begins:
                    raise ValueError(f'{self.path}:{number}: expected {{"key": ..., "record": ...}}; delete the line')
                self._places[key] = place
                place += len(line)


@contextmanager
def _locked(descriptor: int, path: Path) -> Generator[None]:
    """Hold the lock of an open file; the system releases it if the process dies."""
    try:
        import fcntl  # missing on Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError) as error:
        raise ValueError(f"{path}: files cannot be locked there ({error}); choose a folder on a local disk") from error
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _drop_rest(descriptor: int) -> int:
    """Truncate a partial last line of a locked file; return the new size."""
    size = end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _key_of(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if isinstance(entry, dict) and entry.keys() == {"key", "record"} and isinstance(entry["key"], str):
        return entry["key"]
    return None


def _plain(value: Any) -> Any:
    """Convert NumPy values and paths to JSON types."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a record of type {type(value).__name__} cannot be written as JSON")


def _canonical(value: Any) -> Any:
    """Convert a value without a JSON type to a JSON value that identifies its content."""
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
