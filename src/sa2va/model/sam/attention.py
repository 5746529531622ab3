"""Attend in blocks of plain products where a CPU's fused kernel takes longer: in bfloat16, and over narrow values.

Flow: sam2.py names BLOCKWISE to Transformers' attention -> attend_blockwise, per layer; memory_attention.py -> average.
Source: softmax attention, arXiv:1706.03762; over a part of the keys at a time, arXiv:1805.02867. In bfloat16 a score is
    rounded before the softmax, which works in full precision; the fused kernel does not round there.
Shapes: N sequences (pictures, objects, windows or heads), Q queries, L keys, D width of a key, V of a value.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

BLOCKWISE = "blockwise"
# Scores that are held together, so that they stay in a CPU's caches: whole rows in bfloat16, where sums of parts would
# be rounded, parts of rows in float32, so many for each thread.
SCORES_IN_ROWS = 2**22
SCORES_IN_PARTS, ROWS_OF_PARTS = 2**19, 512


def avoid_cudnn() -> None:
    """Leave cuDNN out of PyTorch's attention kernels, for the whole process and for good.

    cuDNN, which an H100 would take first, makes a plan for each new number of keys, and memories and KV caches grow.
    PyTorch has no such argument per call, and a switch that is turned back after a call is turned back for other
    threads too.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def average(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average values by how well their keys fit a query, which is already scaled. On a CPU no gradients come back.

    Args:
        query: (N, Q, D).
        key: (N, L, D).
        value: (N, L, V).

    Returns:
        (N, Q, V).
    """
    rounded = query.dtype == torch.bfloat16
    # A CPU's fused kernel takes no values narrower than the keys; in float32 it is the quicker one for equal widths.
    if query.device.type != "cpu" or (not rounded and query.shape[-1] == value.shape[-1]):
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
    num_queries, num_keys = query.shape[1], key.shape[1]
    most = SCORES_IN_ROWS if rounded else of_all_threads(SCORES_IN_PARTS)
    rows = min(num_queries, max(1, most // num_keys) if rounded else of_all_threads(ROWS_OF_PARTS))
    together = max(1, most // (rows * num_keys))
    found = query.new_empty(len(query), num_queries, value.shape[-1])
    for n in range(0, len(query), together):
        some = slice(n, n + together)
        for row in range(0, num_queries, rows):
            part = query[some, row : row + rows]
            if rounded:
                averages = torch.softmax(part @ key[some].transpose(1, 2), -1) @ value[some]
            else:
                averages = _average_parts(part, key[some], value[some])
            found[some, row : row + rows] = averages
    return found


def of_all_threads(number: int) -> int:
    """Give each thread of a CPU so much of a block."""
    return number * torch.get_num_threads()


def _average_parts(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average while seeing a part of the keys at a time."""
    size = max(1, of_all_threads(SCORES_IN_PARTS) // (query.shape[0] * query.shape[1]))
    softmax = OnlineSoftmax(query, value.shape[-1])
    for keys, values in zip(key.split(size, 1), value.split(size, 1), strict=True):
        softmax.add(query @ keys.transpose(1, 2), values)
    return softmax.result()


class OnlineSoftmax:
    """Averages of values by the softmax of their scores, which come part by part (online softmax); no gradients."""

    def __init__(self, query: Tensor, width: int) -> None:
        """Start for queries (..., Q, D) and values of a width."""
        self._largest = query.new_full((*query.shape[:-1], 1), -torch.inf)
        self._total = torch.zeros_like(self._largest)
        self._sum = query.new_zeros(*query.shape[:-1], width)

    def add(self, scores: Tensor, values: Tensor, offset: Tensor | float = 0.0) -> None:
        """Take in some keys.

        Args:
            scores: (..., Q, L), overwritten.
            values: (..., L, V).
            offset: (..., Q, 1) what all these scores lack.
        """
        larger = torch.maximum(self._largest, scores.amax(-1, keepdim=True) + offset)
        shrink, weights = self._largest.sub_(larger).exp_(), scores.sub_(larger - offset).exp_()
        self._total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        self._sum.mul_(shrink)
        add_product = torch.addmm if weights.dim() == 2 else torch.baddbmm
        add_product(self._sum, weights, values, out=self._sum)
        self._largest = larger

    def result(self) -> Tensor:
        """Return the averages (..., Q, V)."""
        return self._sum.div_(self._total)


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
