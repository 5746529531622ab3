"""Hold what a model reads: prompts for an answer, or a training batch with labels, mask rows and followed objects.

Flow: processor.py -> Prompts or Batch -> mllm.py, sa2va.py.
Shapes: B samples, L tokens, P tiles, s their side, F frames for SAM 2 (all samples), K key frames of a clip, M mask
    tokens, R masks to decode, h w target grid, n followed objects, T frames they are followed through.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


def move(value: Any, device: torch.device | str) -> Any:
    """Move a tensor, or the tensors of a dataclass, to a device; anything else stays as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: move(getattr(value, f.name), device) for f in fields(value)})
    return value


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What the language model needs of B prompts or conversations."""

    input_ids: Tensor  # (B, L) long
    attention_mask: Tensor  # (B, L) long
    pixel_values: Tensor  # of all pictures, one after the other: (P, 3, s, s) tiles, or (patches, values of a patch)
    grids: Tensor  # (pictures, 3) time, rows, columns of patches, where the image encoder takes any size; else (0, 3)
    visual_index: Tensor  # (places,) which visual token stands at each image place; regions repeat some
    branches: Tensor | None = None  # (B, L) long, which text of a packed row a token is in; see branches.py

    def to(self, device: torch.device | str) -> Self:
        return move(self, device)


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Objects that are followed from their key frames through frames in between."""

    keyframes: tuple[int, ...]  # K, of every clip that is followed
    frames: tuple[int, ...]  # T indices in the clip, one after the other
    pixel_values: Tensor  # (frames of all clips, 3, S, S)
    frame_index: Tensor  # (n, T) which of them each object is followed through
    key_rows: Tensor  # (n, K) rows of Batch.seg_rows that prompt each object
    targets: Tensor  # (n, T, h, w) bool, visible pixels
    seeds: Tensor  # (n, T) long


@dataclass(frozen=True, kw_only=True)
class Batch(Prompts):
    """Tensors of B samples. Everything about masks is listed sample by sample, in reading order."""

    labels: Tensor  # (B, L) long, IGNORE_INDEX where the language loss does not look
    sam_pixel_values: Tensor  # (F, 3, S, S)
    seg_positions: Tensor  # (M, 2) row and column of each mask token in input_ids
    seg_rows: Tensor  # (R, 3) state (of the M), frame (of the F) and object of each mask to decode
    seg_targets: Tensor  # (R, h, w) bool, visible pixels
    seg_seeds: Tensor  # (R,) long, seeds of the random points of each mask
    tracks: Tracks | None = None
    shared_parts: frozenset[str] = frozenset()  # parts that another process runs in this step, see `with_parts`

    @property
    def parts(self) -> frozenset[str]:
        """Parts of the model that this batch runs beside the text model: "pictures", "masks", "tracks"."""
        own = {"pictures": len(self.visual_index), "masks": len(self.seg_rows), "tracks": self.tracks is not None}
        return self.shared_parts | {name for name, there in own.items() if there}

    def with_parts(self, parts: Collection[str]) -> Self:
        """Run these parts whatever the batch holds, so that all processes of a step run the same graph."""
        return replace(self, shared_parts=frozenset(parts))
