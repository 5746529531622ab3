"""Implement EdgeTAM: SAM 2 with a small image encoder and memories compressed to a few tokens.

Flow: as sam2.py, which it replaces.
Source: EdgeTAM, arXiv:2501.07256: 256 global and 256 spatial tokens instead of one per cell of the grid.
Shapes: N objects, g side of the coarsest grid, L memory tokens.
"""

import torch
from torch import Tensor
from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

from sa2va.model.sam.sam2 import Sam2


class EdgeTam(Sam2):
    """EdgeTAM behind the interface of Sam2. The image encoder of the published model needs the timm library."""

    NATIVE_CLASS = EdgeTamVideoModel
    CONFIG_CLASS = EdgeTamVideoConfig

    def pack_memory(self, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compress memory maps, both (N, 64, g, g), to (L, N, 64), in full precision as in Transformers."""
        # Object by object: Transformers' resampler cannot handle several rows.
        packed = [
            self.native.spatial_perceiver(features[n : n + 1], positions[n : n + 1]) for n in range(len(features))
        ]
        tokens, places = (torch.cat(part).transpose(0, 1) for part in zip(*packed, strict=True))  # (N, L, 64)
        return tokens.to(features.dtype), places.to(positions.dtype)

    def describe_memory(self, num_memories: int) -> dict[str, int]:
        return {"num_spatial_memory_tokens": num_memories}
