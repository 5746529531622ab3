"""Store the memories of all objects in two buffers; the host knows which page of them belongs to which frame.

Flow: Sam2.encode_memory -> MemoryBank.write -> pages; tracker.py selects pages -> MemoryBank.recall -> Recalled
    -> Memories -> Sam2.attend.
Shapes: N objects, M memory maps and P pointers that a frame attends to, L memory tokens of a map, C width.
"""

from collections.abc import Collection, Sequence
from itertools import count, islice
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sa2va.model.sam.memory_attention import Memories
from sa2va.model.sam.sam2 import Memory, Sam2
from sa2va.model.torch_defaults import is_read_only
from sa2va.model.transfers import to_device


class Page(NamedTuple):
    """Rows of the two buffers that hold one object's memory of one frame."""

    map: int
    pointer: int


class Reading(NamedTuple):
    """Rows of the two buffers that one object attends to on one frame, in this order."""

    maps: Sequence[int] = ()
    slots: Sequence[int] = ()  # row of the temporal position encoding of each map
    pointers: Sequence[int] = ()
    ages: Sequence[int] = ()  # frames since each pointer

    @property
    def size(self) -> tuple[int, int]:
        """M and P."""
        return len(self.maps), len(self.pointers)


class Recalled(NamedTuple):
    """Memories of N objects that one frame attends to."""

    maps: Tensor  # (N, M, L, 64)
    slots: Tensor  # (N, M) row of the temporal position encoding
    positions: Tensor  # (L, 64) of one map
    pointers: Tensor | None  # (N, P, C); None = no pointers
    ages: Tensor  # (N, P) frames since each pointer
    max_pointers: int  # SAM 2.1 scales the ages by it
    mask: Tensor | None  # bool (N, M + P), False = padding; None = no padding

    def embed(self, sam2: Sam2, dtype: torch.dtype) -> Memories:
        """Turn the maps and pointers into tokens with positions."""
        temporal = sam2.native.memory_temporal_positional_encoding[:, 0]  # (7, 1, 64)
        tokens = [self.maps.flatten(1, 2).to(dtype)]
        positions = [(self.positions + temporal)[self.slots].flatten(1, 2)]
        num_maps, num_tokens, split = self.maps.shape[1], tokens[0].shape[1], 1
        if self.pointers is not None:
            pointers, where = sam2.embed_pointers(self.pointers, self.ages, self.max_pointers)
            split = pointers.shape[1] // self.pointers.shape[1]
            tokens.append(pointers.to(dtype))
            positions.append(where)
        mask = self.mask
        if mask is not None:
            maps, pointers = mask.split([num_maps, mask.shape[1] - num_maps], dim=1)
            length = num_tokens // num_maps
            mask = torch.cat([maps.repeat_interleave(length, 1), pointers.repeat_interleave(split, 1)], 1)
        keys = torch.cat(tokens, 1)
        return Memories(keys, torch.cat(positions, 1), num_maps, keys.shape[1] - num_tokens, mask)


class MemoryBank:
    """Memory maps and pointers of all objects; the buffers double when they are full."""

    def __init__(self) -> None:
        self._maps, self._pointers = Pages(), Pages()
        self._positions: Tensor | None = None  # (L, 64), the same for each map

    def reserve(self, number: int, maps: Collection[int], pointers: Collection[int]) -> list[Page]:
        """Select free pages, given the rows in use."""
        return [Page(*pair) for pair in zip(_first_free(number, maps), _first_free(number, pointers), strict=True)]

    def write(self, memory: Memory, pages: Sequence[Page], rows: Sequence[Tensor] | None = None) -> None:
        """Write the memory of N objects.

        Args:
            memory: of one frame.
            pages: N of them.
            rows: the same pages as two index tensors (N,), from `send`; None = send them.
        """
        maps, pointers = [page.map for page in pages], [page.pointer for page in pages]
        if rows is None:
            rows = send([maps, pointers], memory.features.device)
        self._maps.write(memory.features.transpose(0, 1), max(maps), rows[0])
        self._pointers.write(memory.pointers, max(pointers), rows[1])
        self._positions = memory.positions[:, 0]

    def recall(self, readings: Sequence[Reading], index: Sequence[Tensor], max_pointers: int) -> Recalled:
        """Gather the memories of N objects.

        Args:
            readings: N of them, each with at least one map; shorter ones are padded and masked.
            index: `flatten_readings(readings)` on the device.
            max_pointers: see `Recalled`.
        """
        assert self._positions is not None
        n, (m, p) = len(readings), _largest(readings)
        maps, slots, pointers, ages, *mask = index
        return Recalled(
            maps=self._maps.read(maps).unflatten(0, (n, m)),
            slots=slots.view(n, m),
            positions=self._positions,
            pointers=self._pointers.read(pointers).unflatten(0, (n, p)) if p else None,
            ages=ages.view(n, p),
            max_pointers=max_pointers,
            mask=mask[0].view(n, m + p).bool() if mask else None,
        )

    @property
    def num_bytes(self) -> int:
        """Size of both buffers."""
        return self._maps.num_bytes + self._pointers.num_bytes

    def copy(self, pages: Sequence[Page]) -> tuple[Self, list[Page]]:
        """Copy some pages into a bank of their own; return it and the new pages."""
        other = type(self)()
        other._positions = self._positions
        other._maps.copy(self._maps, [page.map for page in pages])
        other._pointers.copy(self._pointers, [page.pointer for page in pages])
        return other, [Page(number, number) for number in range(len(pages))]


class Pages:
    """Buffer whose rows are pages. The empty ones are finite, as a mask does not hide NaN."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None

    def write(self, values: Tensor, last: int, index: Tensor) -> None:
        """Write rows; `last` is the largest index. With gradients the buffer is copied, else written in place."""
        rows = self._grow(values, last + 1)
        values = values.to(rows.dtype)
        if torch.is_grad_enabled() or is_read_only(rows):
            self._rows = rows.index_copy(0, index, values)
        else:
            rows.index_copy_(0, index, values)

    def read(self, index: Tensor) -> Tensor:
        """Copy rows."""
        assert self._rows is not None
        return self._rows.index_select(0, index)

    @property
    def num_bytes(self) -> int:
        return 0 if self._rows is None else self._rows.nbytes

    def copy(self, other: "Pages", rows: Sequence[int]) -> None:
        """Take over the given rows of another buffer."""
        if rows:
            assert other._rows is not None
            self._rows = other._rows[list(rows)]

    def _grow(self, like: Tensor, number: int) -> Tensor:
        if self._rows is None:
            self._rows = like.new_zeros(number, *like.shape[1:])
        elif number > len(self._rows):
            more = self._rows.new_zeros(max(number - len(self._rows), len(self._rows)), *like.shape[1:])
            self._rows = torch.cat([self._rows, more])
        return self._rows


def flatten_readings(readings: Sequence[Reading]) -> list[list[int]]:
    """Flatten the readings of N objects to lists of indices: maps, slots, pointers, ages.

    Readings of different size are padded with page 0, and a fifth list (N, M + P) says which entries are no padding.
    """
    m, p = _largest(readings)
    lengths = m, m, p, p
    fields = [
        [number for one in readings for number in _pad(one[field], length)] for field, length in enumerate(lengths)
    ]
    if all(one.size == (m, p) for one in readings):
        return fields
    seen = [_pad([1] * len(one.maps), m) + _pad([1] * len(one.pointers), p) for one in readings]
    return [*fields, [number for row in seen for number in row]]


def send(numbers: Sequence[Sequence[int]], device: torch.device) -> list[Tensor]:
    """Send lists of integers to a device in one copy, which the host does not wait for."""
    flat = torch.tensor([number for part in numbers for number in part], dtype=torch.long)
    return list(to_device(flat, device).split([len(part) for part in numbers]))


def _largest(readings: Sequence[Reading]) -> tuple[int, int]:
    return max(len(one.maps) for one in readings), max(len(one.pointers) for one in readings)


def _pad(numbers: Sequence[int], length: int) -> list[int]:
    return [*numbers, *[0] * (length - len(numbers))]


def _first_free(number: int, used: Collection[int]) -> list[int]:
    return list(islice((row for row in count() if row not in used), number))
