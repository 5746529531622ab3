"""Implement the Qwen3-VL family.

Flow: picture -> patches -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: Qwen3-VL, arXiv:2511.21631 (DeepStack: image encoder features are added in early text layers); the released
    Sa2VA code under Transformers 4.57, where the last hidden state of this family is the one before the final norm.
Shapes: B samples, L tokens, D width, V visual tokens, Y vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRMSNorm

from sa2va.model.families.protocol import TextInput, TextOutput, VisualTokens
from sa2va.model.families.qwen_vl import QwenVL


class LateNorm(Qwen3VLTextRMSNorm):
    """Final norm that the text model passes over, so that it returns the states before it; `logits` applies it.

    Both call the module, so that the hooks of a dispatched model move its weights.
    """

    def forward(self, hidden_states: Tensor, *, is_due: bool = False) -> Tensor:
        return super().forward(hidden_states) if is_due else hidden_states


def add_deepstack(hidden_states: Tensor, visual_pos_masks: Tensor, visual_embeds: Tensor) -> Tensor:
    """Add image features (n, D) to the states (B, L, D) at visual tokens; the original makes the host wait.

    A layer may be on another device than the embeddings.
    """
    places = visual_pos_masks.to(hidden_states.device)[..., None]
    return hidden_states + torch.zeros_like(hidden_states).masked_scatter(places, visual_embeds.to(hidden_states))


class Qwen3VL(QwenVL):
    """Qwen3-VL."""

    pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    def build_mllm(self, config: dict[str, Any]) -> Qwen3VLForConditionalGeneration:
        """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
        mllm = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
        text = mllm.model.language_model
        text.norm = LateNorm(text.config.hidden_size, eps=text.config.rms_norm_eps).to(text.norm.weight.dtype)
        text._deepstack_process = add_deepstack  # a private method; a test of the waits notices a change of its name
        return mllm

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode the patches of all pictures, with grids (pictures, 3), to (V, D)."""
        output = mllm.model.visual(pixel_values, grid_thw=grids, return_dict=True)
        return VisualTokens(output.pooler_output, tuple(output.deepstack_features))

    def run_text(self, mllm: Any, inputs: TextInput, cache: Cache | None, **more: Any) -> TextOutput:
        """Return the states before the final norm (other families: after it), and the attention."""
        if inputs.deepstack:
            more |= {"visual_pos_masks": inputs.visual_places, "deepstack_visual_embeds": list(inputs.deepstack)}
        return super().run_text(mllm, inputs, cache, **more)

    def logits(self, mllm: Any, states: Tensor) -> Tensor:
        """Return the logits of the next token: (B, L, D) -> (B, L, Y)."""
        return mllm.lm_head(mllm.model.language_model.norm(states, is_due=True))
