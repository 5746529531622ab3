"""Keep records as JSON in one buffer, which worker processes share.

Flow: records of a dataset -> pack, one by one while they are read -> PackedRecords -> StoredDataset.records.
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


class PackedRecords(Sequence[R], Generic[R]):
    """Records decoded when asked for; their tuples come back as lists.

    Args:
        kind: dataclass of the records.
        packed: one packed record each.
    """

    def __init__(self, kind: type[R], packed: Iterable[bytes]) -> None:
        parts = list(packed)
        self._kind = kind
        self._ends = np.cumsum([0, *map(len, parts)])
        self._buffer = np.frombuffer(b"".join(parts), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        start, end = self._ends[index % len(self)], self._ends[index % len(self) + 1]
        return self._kind(*json.loads(self._buffer[start:end].tobytes()))
