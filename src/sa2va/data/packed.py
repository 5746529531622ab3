"""Keep byte strings and records in one buffer, which worker processes share.

Flow: records of a dataset -> pack, one by one while they are read -> PackedRecords -> StoredDataset.records;
    masks of a track -> PackedBytes in mask_dict.py.
    Parsed annotations take about five times the memory of their text, and a forked worker copies every page on which
    it counts a reference.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar, overload

import numpy as np

R = TypeVar("R")


def pack(record: Any) -> bytes:
    """Encode a dataclass whose fields are plain values: texts, numbers, lists, tuples, dictionaries."""
    values = [getattr(record, one.name) for one in fields(record)]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


class PackedBytes(Sequence[bytes]):
    """Byte strings in one buffer."""

    __slots__ = ("_buffer", "_ends")

    def __init__(self, parts: Iterable[bytes]) -> None:
        parts = list(parts)
        ends = np.cumsum([0, *map(len, parts)])
        self._ends = ends.astype(np.min_scalar_type(int(ends[-1])))
        self._buffer = np.frombuffer(b"".join(parts), np.uint8)  # an array travels to a spawned worker as one block

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedBytes):
            return NotImplemented
        return np.array_equal(self._ends, other._ends) and np.array_equal(self._buffer, other._buffer)

    __hash__ = None

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        return self._buffer[int(self._ends[places]) : int(self._ends[places + 1])].tobytes()


class PackedRecords(Sequence[R], Generic[R]):
    """Records decoded when asked for; their tuples come back as lists.

    Args:
        kind: dataclass of the records.
        packed: one packed record each.
    """

    def __init__(self, kind: type[R], packed: Iterable[bytes]) -> None:
        self._kind, self._packed = kind, PackedBytes(packed)

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        found = self._packed[index]
        return self._decode(found) if isinstance(found, bytes) else [self._decode(one) for one in found]

    def _decode(self, packed: bytes) -> R:
        return self._kind(*json.loads(packed))
