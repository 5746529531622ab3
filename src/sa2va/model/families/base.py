"""Share what every family does alike: text model, positions counted in a row, states after the final norm.

Flow: MllmFamily -> one subclass a family, each in a file of its own -> catalog.py.
Shapes: B samples, L tokens, D width, Y vocabulary.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache

from sa2va.model.families.protocol import TextInput


class MllmFamily:
    """A family whose pictures are squares, read by a native model with `model.language_model` and `lm_head`."""

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

    def positions(self, mllm: Any, input_ids: Tensor, attention_mask: Tensor, grids: Tensor) -> Tensor:
        """Count the tokens of each row, padding aside: (B, L)."""
        return (attention_mask.cumsum(1) - 1).clamp(min=0)

    def run_text(self, mllm: Any, inputs: TextInput, cache: DynamicCache | None, **more: Any) -> Tensor:
        """Return the states (B, L, D) after the final norm; `more` goes to the native text model."""
        return self.language_model(mllm)(
            inputs_embeds=inputs.embeds,
            attention_mask=inputs.attention_mask,
            position_ids=inputs.position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
            **more,
        ).last_hidden_state

    def logits(self, mllm: Any, states: Tensor) -> Tensor:
        """Return the scores of the next token: (..., D) -> (..., Y)."""
        return mllm.lm_head(states)
