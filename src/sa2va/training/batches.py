"""Walk the tensors of a batch: to a device, or out of it and back for the trip between two processes.

Flow: prefetch.py (take_arrays in the worker, put_arrays in the parent) and loop.py (to_device).
A batch is any nest of dicts, lists, tuples and dataclasses.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """Where a tensor or an array was."""

    index: int  # its place in the list of arrays
    shape: tuple[int, ...]
    dtype: Any  # torch.dtype of a tensor, numpy dtype of an array


def map_batch(batch: Any, function: Callable[[Any], Any]) -> Any:
    """Return a copy of the nest with `function` applied to everything in it that is no container."""
    if isinstance(batch, dict):
        return {key: map_batch(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_batch(value, function) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map_batch(value, function) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type | Slot):
        # field by field: checks in __post_init__ are for real values, and a dataclass may be frozen
        result = copy.copy(batch)
        for field in dataclasses.fields(batch):
            object.__setattr__(result, field.name, map_batch(getattr(batch, field.name), function))
        return result
    return function(batch)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on `device`; what has a `to` method of its own decides for itself."""
    if hasattr(batch, "to"):
        return batch.to(device)
    return map_batch(batch, lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf)


def take_arrays(batch: Any) -> tuple[Any, list[np.ndarray]]:
    """Return the batch with a Slot for each CPU tensor and numeric array, and their bytes (uint8, 1-D)."""
    arrays: list[np.ndarray] = []

    def take(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            # an empty tensor that came from numpy has a stride that view() refuses
            flat = leaf.detach().cpu().contiguous() if leaf.numel() else torch.empty(0, dtype=leaf.dtype)
            raw = flat.reshape(-1).view(torch.uint8).numpy()
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            raw = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        else:
            return leaf
        arrays.append(raw)
        return Slot(len(arrays) - 1, tuple(leaf.shape), leaf.dtype)

    return map_batch(batch, take), arrays


def put_arrays(batch: Any, arrays: list[np.ndarray]) -> Any:
    """Undo `take_arrays`; the tensors use the memory of `arrays`."""

    def put(leaf: Any) -> Any:
        if not isinstance(leaf, Slot):
            return leaf
        raw = arrays[leaf.index]
        if isinstance(leaf.dtype, torch.dtype):
            # an array without bytes has a stride that view() refuses
            flat = torch.from_numpy(raw).view(leaf.dtype) if raw.size else torch.empty(0, dtype=leaf.dtype)
            return flat.reshape(leaf.shape)
        return raw.view(leaf.dtype).reshape(leaf.shape)

    return map_batch(batch, put)
