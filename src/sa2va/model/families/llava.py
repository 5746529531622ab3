"""Implement the LLaVA-1.5 family.

Flow: picture -> one square -> Picture -> encode_images (base.py); TextInput -> run_text -> states -> logits.
Source: LLaVA-1.5, arXiv:2310.03744; the released Sa2VA code, which resizes every picture and frame to one square
    and writes its 576 image tokens without delimiters.
Shapes: P pictures, s their side in px, D width, V visual tokens.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlavaConfig, LlavaForConditionalGeneration

from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.base import MllmFamily
from sa2va.model.families.internvl import split_tiles
from sa2va.model.families.protocol import Picture
from sa2va.model.pixels import CLIP_MEAN, CLIP_STD, normalize


class Llava(MllmFamily):
    """LLaVA-1.5: CLIP image encoder and Llama."""

    image_token = "<image>"
    pixel_mean, pixel_std = CLIP_MEAN, CLIP_STD
    layer_names = {
        ("text_config", "num_hidden_layers"): "model.language_model.layers.",
        ("vision_config", "num_hidden_layers"): "model.vision_tower.encoder.layers.",
    }

    def build_mllm(self, config: dict[str, Any]) -> LlavaForConditionalGeneration:
        """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
        return LlavaForConditionalGeneration(LlavaConfig(**config))

    def read_picture(self, picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
        """Resize a picture or frame (H, W, 3) to the encoder's square input, ignoring aspect ratio."""
        square = split_tiles(picture, config.tile_size, 1)
        return Picture(normalize(torch.from_numpy(square), self.pixel_mean, self.pixel_std), config.tokens_per_tile)

    def image_block(self, num_tokens: int) -> str:
        """Return the image tokens of one picture or frame."""
        return self.image_token * num_tokens
