"""Implement the Qwen2.5-VL family.

Flow: picture -> patches -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: Qwen2.5-VL, arXiv:2502.13923.
Shapes: D width, V visual tokens.
"""

from typing import Any

from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from sa2va.model.families.protocol import VisualTokens
from sa2va.model.families.qwen_vl import QwenVL
from sa2va.model.pixels import CLIP_MEAN, CLIP_STD


class Qwen2_5VL(QwenVL):
    """Qwen2.5-VL."""

    pixel_mean, pixel_std = CLIP_MEAN, CLIP_STD

    def build_mllm(self, config: dict[str, Any]) -> Qwen2_5_VLForConditionalGeneration:
        """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode the patches of all pictures, with grids (pictures, 3), to (V, D)."""
        return VisualTokens(mllm.model.visual(pixel_values, grid_thw=grids, return_dict=True).pooler_output)
