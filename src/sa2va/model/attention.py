"""Attend in blocks of plain products where a CPU computes in bfloat16: its fused kernel takes up to twice as long.

Flow: sam2.py names BLOCKWISE to Transformers' attention -> attend_blockwise, per layer; memory_attention.py -> average.
Source: softmax attention, arXiv:1706.03762. A score is rounded to bfloat16 before the softmax, which works in full
    precision; the fused kernel does not round there.
Shapes: N sequences (pictures, objects, windows or heads), Q queries, L keys, D width of a key, V of a value.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

BLOCKWISE = "blockwise"
SCORES_AT_ONCE = 2**22  # held together: they should stay in a CPU's caches


def average(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average values by how well their keys fit a query, which is already scaled.

    Args:
        query: (N, Q, D).
        key: (N, L, D).
        value: (N, L, V).

    Returns:
        (N, Q, V).
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
    num_queries, num_keys = query.shape[1], key.shape[1]
    together = max(1, SCORES_AT_ONCE // (num_queries * num_keys))
    rows = max(1, SCORES_AT_ONCE // num_keys)
    found = query.new_empty(len(query), num_queries, value.shape[-1])
    for n in range(0, len(query), together):
        some, turned = slice(n, n + together), key[n : n + together].transpose(1, 2)
        for row in range(0, num_queries, rows):
            part = slice(row, row + rows)
            found[some, part] = torch.softmax(query[some, part] @ turned, -1) @ value[some]
    return found


def attend_blockwise(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Attend as Transformers' "sdpa" does, which is asked wherever blocks gain nothing.

    Args:
        module: whose attention it is.
        query: (B, heads, Q, D); key and value alike.
        key: see `query`.
        value: see `query`.
        attention_mask: None where everything is seen.
        dropout: share of the weights that are dropped.
        scaling: of the scores; None is D ** -0.5.
        other: what only "sdpa" understands.

    Returns:
        (B, Q, heads, V) and no weights.
    """
    plain = attention_mask is None and not dropout and not torch.is_grad_enabled() and key.shape == value.shape
    if not plain or query.device.type != "cpu" or query.dtype != torch.bfloat16 or query.shape[1] != key.shape[1]:
        found, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **other
        )
        return found, None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    found = average((query * scale).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return found.unflatten(0, query.shape[:2]).transpose(1, 2).contiguous(), None


AttentionInterface.register(BLOCKWISE, attend_blockwise)
