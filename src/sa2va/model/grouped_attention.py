"""Attention of one token whose query heads share key-value heads: queries of a group become rows of one matrix.

Flow: Mllm sets it for the text model -> attend_grouped, once per layer; a prompt goes on to attend_blockwise.
Source: grouped-query attention, arXiv:2305.13245.
Shapes: B rows, H query heads, K key-value heads, L keys, d width of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from sa2va.model.sam.attention import attend_blockwise

GROUPED = "grouped_queries"  # name in Transformers' attention interface


def attend_grouped(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Compute attention in Transformers' attention interface; use "blockwise" for more than one token.

    "sdpa" gives every query head its own keys. A CPU packs them in bfloat16 anew for each head, which takes 6 to 14
    times as long, and with a mask a compiled step copies them. Float32 without a mask stays as it is, bit for bit.

    Args:
        module: the attention layer.
        query: (B, H, n, d).
        key, value: (B, K, L, d).
        attention_mask: (B, 1, n, L) or None.
        dropout: share of the weights that are dropped.
        scaling: factor of the scores; None = d ** -0.5.
        other: arguments of "sdpa".

    Returns:
        (B, n, H, d) and no weights.
    """
    rows, heads, number, width = query.shape
    packs = key.device.type == "cpu" and key.dtype != torch.float32
    is_one_group = number == 1 and heads > key.shape[1] and not dropout
    if not is_one_group or not (packs or attention_mask is not None):
        return attend_blockwise(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **other)
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    found = F.scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return found.reshape(rows, 1, heads, value.shape[-1]), None


AttentionInterface.register(GROUPED, attend_grouped)
AttentionMaskInterface.register(GROUPED, sdpa_mask)
