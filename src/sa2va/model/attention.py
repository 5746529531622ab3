"""Compute attention blockwise on a CPU, faster than the fused kernel in bfloat16 and for narrow values.

Flow: sam2.py and mllm.py select BLOCKWISE for image encoders and text models -> attend_blockwise;
    memory_attention.py -> attend. In training, attend_blockwise also keeps the sequences of a packed row apart.
Source: attention, arXiv:1706.03762; online softmax, arXiv:1805.02867; grouped queries, arXiv:2305.13245; packing,
    arXiv:2107.02027. In bfloat16, scores are rounded before a softmax in full precision; the fused kernel does not
    round them.
Shapes: N sequences (pictures, objects, windows or heads), Q queries, L keys, D width of a key, V of a value.
"""

import math
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BLOCKWISE = "blockwise"
# Number of scores in a block, such that they fit a CPU's caches. In bfloat16 a block holds whole rows, since partial
# sums would be rounded: all rows of several short sequences, or some rows of one long sequence. In float32 it holds
# parts of rows, and its size is per thread.
SCORES_TOGETHER, SCORES_IN_ROWS = 2**20, 2**23
SCORES_IN_PARTS, ROWS_OF_PARTS = 2**19, 512
# Number of scores of a sequence (all heads) up to which products that autograd records are 1.5 to 5 times as fast.
SCORES_RECORDED = 2**19
CAUSAL_ROWS = 128  # queries in a block of causal attention in bfloat16; each sees no key after the block


def avoid_cudnn() -> None:
    """Disable cuDNN attention in PyTorch, permanently for the whole process.

    cuDNN is PyTorch's first choice on an H100. It compiles a plan for each new number of keys, and the number changes
    as memories and KV caches grow.
    PyTorch has no argument for this per call. Restoring the switch after a call would affect other threads.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def takes_blocks(tensor: Tensor) -> bool:
    """Whether to compute block by block: on a CPU, unless torch.compile traces the code, whose loops would unroll."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute attention for pre-scaled queries. The CPU path is inference-only.

    Args:
        query: (N, Q, D).
        key: (N, L, D).
        value: (N, L, V).
        mask: bool (N, L), False = padding; None = no padding.

    Returns:
        (N, Q, V).
    """
    if mask is not None:
        key, value, seen = key[:, None], value[:, None], mask[:, None, None]
        return F.scaled_dot_product_attention(query[:, None], key, value, attn_mask=seen, scale=1.0)[:, 0]
    rounded = query.dtype == torch.bfloat16
    # The fused CPU kernel requires values as wide as the keys. For such values it is faster in float32.
    if not takes_blocks(query) or (not rounded and query.shape[-1] == value.shape[-1]):
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
    found = query.new_empty(*query.shape[:2], value.shape[-1])
    if rounded:
        _attend_rows(query, key, value, found)
        return found
    rows = _per_thread(ROWS_OF_PARTS)
    for queries, keys, values, attended in zip(query, key, value, found, strict=True):
        for part, into in zip(queries.split(rows), attended.split(rows), strict=True):
            _attend_online(part, keys, values, into)
    return found


def _per_thread(number: int) -> int:
    """Multiply a per-thread block size by the number of CPU threads."""
    return number * torch.get_num_threads()


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, found: Tensor) -> None:
    """Compute attention in blocks of whole rows, as `attend`, into `found`.

    All blocks share one buffer: the pages of a new one cost as much as its products. Long sequences are multiplied
    one by one, since PyTorch reorders the operands of batched products in bfloat16.
    """
    number, num_queries, num_keys = *query.shape[:2], key.shape[1]
    together = min(number, max(1, SCORES_TOGETHER // (num_queries * num_keys)))
    num_blocks = 1 if together > 1 else -(-num_queries * num_keys // SCORES_IN_ROWS)
    rows = -(-num_queries // num_blocks)
    buffer = query.new_empty(together * rows * num_keys)
    for n in range(0, number, together):
        some = slice(n, n + together) if together > 1 else n
        for row in range(0, num_queries, rows):
            part = query[some, row : row + rows]
            size = part.shape[:-1] + (num_keys,)
            scores = buffer[: math.prod(size)].view(size)
            torch.matmul(part, key[some].mT, out=scores)
            torch.softmax(scores, -1, out=scores)
            torch.matmul(scores, value[some], out=found[some, row : row + rows])


def _attend_online(query: Tensor, key: Tensor, value: Tensor, attended: Tensor) -> None:
    """Compute attention block of keys by block (online softmax): (Q, D), (L, D), (L, V) -> `attended`, (Q, V)."""
    size = min(len(key), max(1, _per_thread(SCORES_IN_PARTS) // len(query)))
    buffer = query.new_empty(len(query) * size)
    largest = query.new_full((len(query), 1), -torch.inf)
    total = torch.zeros_like(largest)
    attended.zero_()
    for keys, values in zip(key.split(size), value.split(size), strict=True):
        scores = torch.mm(query, keys.T, out=buffer[: len(query) * len(keys)].view(len(query), len(keys)))
        larger = torch.maximum(largest, scores.amax(-1, keepdim=True))
        shrink, weights = largest.sub_(larger).exp_(), scores.sub_(larger).exp_()
        total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        attended.mul_(shrink).addmm_(weights, values)
        largest = larger
    attended.div_(total)


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
        query: (B, heads, Q, D).
        key, value: (B, heads, L, D), or fewer heads, which groups of query heads share.
        attention_mask: (B, 1, Q, L); None if every key is visible, or every earlier one in a causal layer.
        dropout: share of the weights that are dropped.
        scaling: factor of the scores; None = D ** -0.5.
        other: arguments of "sdpa"; `sequence_lengths`, the lengths of the causal sequences packed in a single row.

    Returns:
        (B, Q, heads, V) and no weights.
    """
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotations under autocast return float32
    if lengths := other.pop("sequence_lengths", None):
        parts = [tensor.split(list(lengths), 2) for tensor in (query, key, value)]
        found = [_attend_row(module, *row, dropout, scaling, other) for row in zip(*parts, strict=True)]
        return torch.cat(found, dim=1), None
    if not dropout and _gains_from_groups(query, key, attention_mask):
        return _attend_groups(query, key, value, attention_mask, scaling), None
    causal = other.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    in_blocks = takes_blocks(query) and query.dtype == torch.bfloat16 and not dropout
    if torch.is_grad_enabled() and any(each.requires_grad for each in (query, key, value)):
        if in_blocks and query.shape[1] * query.shape[2] * key.shape[2] <= SCORES_RECORDED:
            return _attend_whole(query, key, value, attention_mask, scaling, causal=causal), None
        in_blocks = False
    fits = query.shape[2] == key.shape[2] if causal else query.shape[1] == key.shape[1]
    if not in_blocks or not fits or attention_mask is not None or key.shape != value.shape:
        found, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **other
        )
        return found, None
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if causal:
        return _attend_causal(query, key, value), None
    found = attend(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return found.unflatten(0, query.shape[:2]).transpose(1, 2).contiguous(), None


def _attend_row(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float | None, other: Any
) -> Tensor:
    """Compute causal attention of one packed sequence (1, heads, L, D) -> (1, L, heads, V)."""
    window, length = other.get("sliding_window"), query.shape[2]
    mask = None
    if window and window < length:
        near = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        mask = near.triu(1 - window)[None, None]
    return attend_blockwise(module, query, key, value, mask, dropout, scaling, **other)[0]


def _attend_whole(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, *, causal: bool
) -> Tensor:
    """Compute attention by plain products that autograd records: (B, heads, Q, D) -> (B, Q, heads, V)."""
    rows, heads, num_queries, width = query.shape
    num_groups, num_keys = key.shape[1], key.shape[2]
    scale = width**-0.5 if scaling is None else scaling
    grouped = (query * scale).reshape(rows, num_groups, -1, width)  # heads that share keys are rows of one product
    scores = (grouped @ key.mT).unflatten(2, (heads // num_groups, num_queries))
    if mask is None and causal and num_queries > 1:
        mask = torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)[None, None]
    if mask is not None:
        mask = mask[:, :, None]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    found = weights.flatten(2, 3) @ value
    return found.view(rows, heads, num_queries, -1).transpose(1, 2)


def _gains_from_groups(query: Tensor, key: Tensor, mask: Tensor | None) -> bool:
    """Whether a single token has query heads that share keys, in a case where "sdpa" copies the keys for each of them.

    It does so in bfloat16 on a CPU, 6 to 14 times as slow, and with a mask in a compiled step. Float32 without a mask
    stays as it is, bit for bit.
    """
    copies = mask is not None or (key.device.type == "cpu" and key.dtype != torch.float32)
    return query.shape[2] == 1 and query.shape[1] > key.shape[1] and copies


def _attend_groups(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Compute attention of one token (B, heads, 1, D) -> (B, 1, heads, V): a group's queries are rows of one matrix."""
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    found = F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return found.reshape(rows, 1, heads, value.shape[-1])


def _attend_causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute causal attention of pre-scaled queries: (B, heads, L, D) -> (B, L, heads, D); heads may share keys."""
    batch, num_heads, length, width = query.shape
    num_groups, rows = key.shape[1], min(length, CAUSAL_ROWS)
    found = query.new_empty(batch, length, num_heads, width)
    groups = num_heads // num_groups  # heads that share keys are rows of one product
    buffer = query.new_empty(groups * rows * length)
    later = torch.ones(rows, rows, dtype=torch.bool).triu(1)
    for b, g, start in product(range(batch), range(num_groups), range(0, length, rows)):
        heads, end = slice(g * groups, (g + 1) * groups), min(length, start + rows)
        part = query[b, heads, start:end]  # (groups, rows, D)
        scores = buffer[: groups * (end - start) * end].view(-1, end)
        torch.mm(part.flatten(0, 1), key[b, g, :end].T, out=scores)
        scores.view(groups, -1, end)[..., start:].masked_fill_(later[: end - start, : end - start], -torch.inf)
        torch.softmax(scores, -1, out=scores)
        found[b, start:end, heads] = (scores @ value[b, g, :end]).view(part.shape).transpose(0, 1)
    return found


AttentionInterface.register(BLOCKWISE, attend_blockwise)
AttentionMaskInterface.register(BLOCKWISE, sdpa_mask)
