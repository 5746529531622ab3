"""Define auxiliary losses on intermediate states of Sa2VA, independent of the MLLM family.

Flow: Sa2VA.forward -> ForwardView -> Auxiliary -> additional LossTerms.
Shapes: B samples, L tokens, D MLLM width, C SAM 2 width, H attention heads, M mask tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sa2va.model.losses import LossTerm


@dataclass(frozen=True, kw_only=True)
class ForwardView:
    """Intermediate results of one forward pass: embeddings, hidden states, attention, prompt embeddings."""

    input_embeds: Tensor  # (B, L, D) input of the text model: word embeddings and visual tokens
    is_visual: Tensor  # (B, L) bool, True at visual tokens
    hidden_states: Tensor  # (B, L, D) states from which [SEG] is read
    seg_states: Tensor  # (M, D)
    prompt_embeds: Tensor  # (M, C), projected
    attentions: Mapping[int, Tensor]  # text layer -> (B, H, L, L) probabilities, query before key


class Auxiliary(Protocol):
    """Callable that computes auxiliary losses. An implementation may be a module with trained heads."""

    @property
    def attention_layers(self) -> Sequence[int]:
        """Text layers whose attention the losses read; needs `Mllm.record_attention`."""

    def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
        """Return loss terms by name."""
