"""Implement the Qwen3-VL family.

Flow: picture -> patches -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: Qwen3-VL, arXiv:2511.21631 (DeepStack: image encoder features are added in early text layers); the released
    Sa2VA code under Transformers 4.57, where the last hidden state of this family is the one before the final norm.
Shapes: B samples, L tokens, D width, V visual tokens, Y vocabulary.
"""

from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from sa2va.model.families.protocol import TextInput, TextOutput, VisualTokens
from sa2va.model.families.qwen_vl import QwenVL

# Last input of the final norm in this thread. The native model does not return it.
_BEFORE_NORM: ContextVar[Tensor | None] = ContextVar("states before the final norm", default=None)


def _remember(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    _BEFORE_NORM.set(inputs[0])


class Qwen3VL(QwenVL):
    """Qwen3-VL."""

    pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    def build_mllm(self, config: dict[str, Any]) -> Qwen3VLForConditionalGeneration:
        """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
        mllm = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
        mllm.model.language_model.norm.register_forward_pre_hook(_remember)
        return mllm

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode the patches of all pictures, with grids (pictures, 3), to (V, D)."""
        output = mllm.model.visual(pixel_values, grid_thw=grids, return_dict=True)
        return VisualTokens(output.pooler_output, tuple(output.deepstack_features))

    def run_text(self, mllm: Any, inputs: TextInput, cache: DynamicCache | None, **more: Any) -> TextOutput:
        """Return the states before the final norm (other families: after it), and the attention."""
        if inputs.deepstack:
            more |= {"visual_pos_masks": inputs.visual_places, "deepstack_visual_embeds": list(inputs.deepstack)}
        output = super().run_text(mllm, inputs, cache, **more)
        states = _BEFORE_NORM.get()
        _BEFORE_NORM.set(None)
        assert states is not None
        return output._replace(states=states)

    def logits(self, mllm: Any, states: Tensor) -> Tensor:
        """Return the logits of the next token: (B, L, D) -> (B, L, Y)."""
        normed = mllm.model.language_model.norm.forward(states)  # bypasses the hook
        return mllm.lm_head(normed)
