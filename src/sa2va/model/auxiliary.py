"""Let a training stage add losses on what Sa2VA computes on the way, without knowing the family of its MLLM.

Flow: Sa2VA.forward -> ForwardView -> Auxiliary -> further LossTerms.
Shapes: B samples, L tokens, D MLLM width, C SAM 2 width, H attention heads, M mask tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sa2va.model.losses import LossTerm


@dataclass(frozen=True, kw_only=True)
class ForwardView:
    """What one forward pass computes of a batch, for auxiliary losses."""

    input_embeds: Tensor  # (B, L, D) words and visual tokens as the text model reads them
    is_visual: Tensor  # (B, L) bool, places of visual tokens
    hidden_states: Tensor  # (B, L, D) as [SEG] is read from them
    seg_states: Tensor  # (M, D)
    prompt_embeds: Tensor  # (M, C), projected
    attentions: Mapping[int, Tensor]  # of each requested text layer: (B, H, L, L) probabilities, query before key


class Auxiliary(Protocol):
    """Losses beside those of Sa2VA. Any callable with this attribute will do; modules keep heads of their own."""

    @property
    def attention_layers(self) -> Sequence[int]:
        """Text layers whose attention it reads; needs `Mllm.record_attention`."""

    def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
        """Return further terms by name."""
