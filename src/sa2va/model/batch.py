"""Define the inputs of a model: prompts, and training batches with labels, mask rows and tracked objects.

Flow: processor.py -> Prompts or Batch -> mllm.py, sa2va.py.
Shapes: B samples, L tokens, P tiles, s their side, F frames for SAM 2 (all samples), K key frames of a clip, M mask
    tokens, R masks to decode, h w target grid, n tracked objects, T tracked frames.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from sa2va.model.transfers import to_device


def move(value: Any, device: torch.device | str) -> Any:
    """Move a tensor, or the tensors of a dataclass, to a device; return any other value unchanged."""
    if isinstance(value, Tensor):
        return to_device(value, torch.device(device))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: move(getattr(value, f.name), device) for f in fields(value)})
    return value


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Inputs of the language model for B prompts or conversations."""

    input_ids: Tensor  # (B, L) long
    attention_mask: Tensor  # (B, L) long
    pixel_values: Tensor  # pixels of all pictures in order: (P, 3, s, s) tiles, or (patches, values of a patch)
    grids: Tensor  # (pictures, 3) time, rows, columns of patches if the image encoder takes any size, else (0, 3)
    visual_index: Tensor  # (image tokens,) index of the visual token of each; regions repeat visual tokens
    clips: Tensor  # (C, 2) long, first visual token and number of frames of each clip; its tokens are contiguous
    branches: Tensor | None = None  # (B, L) long, branch of each token in a packed row; see branches.py

    def to(self, device: torch.device | str) -> Self:
        return move(self, device)


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Objects to track from their key frames through other frames of the clip."""

    keyframes: tuple[int, ...]  # K, the same in every tracked clip
    frames: tuple[int, ...]  # T indices of tracked frames, in order
    pixel_values: Tensor  # (frames of all clips, 3, S, S)
    frame_index: Tensor  # (n, T) rows of pixel_values: the frames of each object
    key_rows: Tensor  # (n, K) rows of Batch.seg_rows that prompt each object
    targets: Tensor  # (n, T, h, w) bool, visible pixels
    seeds: Tensor  # (n, T) long


@dataclass(frozen=True, kw_only=True)
class Batch(Prompts):
    """Training batch of B samples. Mask tensors are ordered by sample, then by position in the text."""

    labels: Tensor  # (B, L) long, IGNORE_INDEX at tokens without language loss
    sam_pixel_values: Tensor  # (F, 3, S, S)
    seg_positions: Tensor  # (M, 2) row and column of each mask token in input_ids
    seg_rows: Tensor  # (R, 3) state index (of M), frame index (of F) and object of each mask to decode
    seg_targets: Tensor  # (R, h, w) bool, visible pixels
    seg_seeds: Tensor  # (R,) long, seeds of the random points of each mask
    tracks: Tracks | None = None
    shared_parts: frozenset[str] = frozenset()  # parts that at least one process runs in this step
    counts: Mapping[str, int] = field(default_factory=dict)  # tokens, padding ..., which the trainer sums over a run

    @property
    def parts(self) -> frozenset[str]:
        """Parts of the model that this batch runs beside the text model: "pictures", "clips", "masks", "tracks"."""
        own = {"pictures": len(self.visual_index), "clips": len(self.clips), "masks": len(self.seg_rows)}
        own["tracks"] = self.tracks is not None
        return self.shared_parts | {name for name, there in own.items() if there}

    def with_parts(self, parts: Collection[str]) -> Self:
        """Return the batch with these parts forced on, so that all processes of a step run the same graph."""
        return replace(self, shared_parts=frozenset(parts))
