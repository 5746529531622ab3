"""Define the base class of the families: 1D positions, [SEG] states after the final norm.

Flow: MllmFamily -> one subclass per family, each in its own file -> catalog.py.
Shapes: B samples, L tokens, D width, Y vocabulary.
"""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from sa2va.model.batch import move
from sa2va.model.families.protocol import TextInput, TextOutput, VisualTokens

PIXELS_AT_ONCE = 448**2  # of squares on a CPU: the states of more would leave its caches, and take more memory


def squares_at_once(device: torch.device, height: int, width: int) -> int:
    """Return the number of squares that an image encoder takes at once; their sides are in px."""
    return max(1, PIXELS_AT_ONCE // (height * width)) if device.type == "cpu" else sys.maxsize


class MllmFamily:
    """Base of the families: square tiles, and a native model with `model.language_model` and `lm_head`."""

    image_token: str
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    layer_names: Mapping[tuple[str, str], str]
    picture_joint = "\n"
    takes_regions = False
    takes_any_size = False

    def language_model(self, mllm: Any) -> nn.Module:
        """Return the text model, without its head."""
        return mllm.model.language_model

    def vision_tower(self, mllm: Any) -> nn.Module:
        """Return the image encoder."""
        return mllm.model.vision_tower

    def vision_projector(self, mllm: Any) -> nn.Module:
        """Return the projector from image encoder states to visual tokens."""
        return mllm.model.multi_modal_projector

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode squares (P, 3, s, s); `grids` is unused, since all squares have one size."""
        parts = pixel_values.split(squares_at_once(pixel_values.device, *pixel_values.shape[2:]))
        outputs = [mllm.model.get_image_features(pixel_values=part, return_dict=True).pooler_output for part in parts]
        return VisualTokens(torch.cat([tokens for output in outputs for tokens in output]))  # (tokens, D) of a square

    def positions(self, mllm: Any, input_ids: Tensor, attention_mask: Tensor, grids: Tensor) -> Tensor:
        """Number the tokens of each row, skipping padding: (B, L)."""
        return (attention_mask.cumsum(1) - 1).clamp(min=0)

    def run_text(self, mllm: Any, inputs: TextInput, cache: Cache | None, **more: Any) -> TextOutput:
        """Return the states after the final norm, and the attention; `more` is passed to the native text model."""
        device = inputs.embeds.device
        if inputs.lengths:
            more["sequence_lengths"] = inputs.lengths
        output = self.language_model(mllm)(
            inputs_embeds=inputs.embeds,
            attention_mask=move(inputs.attention_mask, device),
            position_ids=move(inputs.position_ids, device),
            past_key_values=cache,
            use_cache=cache is not None,
            output_attentions=inputs.records_attention,
            **more,
        )
        return TextOutput(output.last_hidden_state, tuple(output.attentions or ()))

    def logits(self, mllm: Any, states: Tensor) -> Tensor:
        """Return the logits of the next token: (..., D) -> (..., Y)."""
        return mllm.lm_head(states)
