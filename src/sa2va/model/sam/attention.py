"""Compute attention blockwise on a CPU, faster than the fused kernel in bfloat16 and for narrow values.

Flow: sam2.py selects BLOCKWISE in Transformers' attention -> attend_blockwise; memory_attention.py -> attend.
Source: attention, arXiv:1706.03762; online softmax, arXiv:1805.02867. In bfloat16, scores are rounded before a softmax
    in full precision; the fused kernel does not round them.
Shapes: N sequences (pictures, objects, windows or heads), Q queries, L keys, D width of a key, V of a value.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

BLOCKWISE = "blockwise"
# Number of scores in a block, such that they fit a CPU's caches. In bfloat16 a block holds whole rows, since partial
# sums would be rounded. In float32 it holds parts of rows, and its size is per thread.
SCORES_IN_ROWS = 2**22
SCORES_IN_PARTS, ROWS_OF_PARTS = 2**19, 512


def avoid_cudnn() -> None:
    """Disable cuDNN attention in PyTorch, permanently for the whole process.

    cuDNN is PyTorch's first choice on an H100. It compiles a plan for each new number of keys, and the number changes
    as memories and KV caches grow.
    PyTorch has no argument for this per call. Restoring the switch after a call would affect other threads.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute attention for pre-scaled queries. The CPU path is inference-only.

    Args:
        query: (N, Q, D).
        key: (N, L, D).
        value: (N, L, V).

    Returns:
        (N, Q, V).
    """
    rounded = query.dtype == torch.bfloat16
    # The fused CPU kernel requires values as wide as the keys. For such values it is faster in float32.
    if query.device.type != "cpu" or (not rounded and query.shape[-1] == value.shape[-1]):
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
    num_queries, num_keys = query.shape[1], key.shape[1]
    most = SCORES_IN_ROWS if rounded else _per_thread(SCORES_IN_PARTS)
    rows = min(num_queries, max(1, most // num_keys) if rounded else _per_thread(ROWS_OF_PARTS))
    together = max(1, most // (rows * num_keys))
    found = query.new_empty(len(query), num_queries, value.shape[-1])
    for n in range(0, len(query), together):
        some = slice(n, n + together)
        for row in range(0, num_queries, rows):
            part = query[some, row : row + rows]
            if rounded:
                attended = torch.softmax(part @ key[some].transpose(1, 2), -1) @ value[some]
            else:
                attended = _attend_online(part, key[some], value[some])
            found[some, row : row + rows] = attended
    return found


def _per_thread(number: int) -> int:
    """Multiply a per-thread block size by the number of CPU threads."""
    return number * torch.get_num_threads()


def _attend_online(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute attention block of keys by block (online softmax): (N, Q, D), (N, L, D), (N, L, V) -> (N, Q, V)."""
    size = max(1, _per_thread(SCORES_IN_PARTS) // (query.shape[0] * query.shape[1]))
    largest = query.new_full((*query.shape[:-1], 1), -torch.inf)
    total = torch.zeros_like(largest)
    attended = query.new_zeros(*query.shape[:-1], value.shape[-1])
    for keys, values in zip(key.split(size, 1), value.split(size, 1), strict=True):
        scores = query @ keys.transpose(1, 2)
        larger = torch.maximum(largest, scores.amax(-1, keepdim=True))
        shrink, weights = largest.sub_(larger).exp_(), scores.sub_(larger).exp_()
        total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        torch.baddbmm(attended.mul_(shrink), weights, values, out=attended)
        largest = larger
    return attended.div_(total)


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
    """Compute attention in Transformers' attention interface; use "sdpa" where blockwise is not faster.

    Args:
        module: the attention layer.
        query, key, value: (B, heads, Q or L, D).
        attention_mask: None if every key is visible.
        dropout: share of the weights that are dropped.
        scaling: factor of the scores; None = D ** -0.5.
        other: arguments of "sdpa".

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
    found = attend((query * scale).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return found.unflatten(0, query.shape[:2]).transpose(1, 2).contiguous(), None


AttentionInterface.register(BLOCKWISE, attend_blockwise)
