"""Compute SAM 2's memory attention faster than Transformers' module, with the module's weights.

Flow: tracker.py -> Sam2.attend -> read_memories -> features of each object -> decoder. Training uses Transformers'
    module, which is the reference.
Source: SAM 2, arXiv:2408.00714, section 4. The order of summation differs. The first self-attention runs once for all
    objects. Rotary positions are one complex product. On a CPU, objects run one at a time to reuse buffers, and
    attention averages the 64 memory channels before the value projection.
Shapes: N objects, C width, g side of the coarsest grid, L memory tokens of one object, P of them pointer tokens.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention, Sam2VideoRoPEAttention
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoMemoryAttention

from sa2va.model.sam.attention import attend

TOKENS_AT_ONCE = 1024  # chunk of a feed-forward layer on a CPU
SUPPORTED = (Sam2VideoMemoryAttention, Sam3TrackerVideoMemoryAttention)  # submodules have the same names


class Memories(NamedTuple):
    """Memory tokens of N objects, for one frame."""

    tokens: Tensor  # (N, L, 64), maps first and pointers last
    positions: Tensor  # (N, L, 64)
    num_maps: int
    num_pointer_tokens: int  # P
    mask: Tensor | None = None  # bool (N, L), False = padding; None = no padding


def can_read(attention: nn.Module) -> bool:
    """Tell whether `read_memories` supports this module: SAM 2's or SAM 3's, with one head as published."""
    if not isinstance(attention, SUPPORTED):
        return False
    return attention.config.memory_attention_num_attention_heads == 1


def read_memories(
    attention: Sam2VideoMemoryAttention | Sam3TrackerVideoMemoryAttention,
    current: Tensor,
    current_positions: Tensor,
    memories: Iterable[Memories],
) -> Tensor:
    """Run memory attention.

    Args:
        attention: Transformers' module, which holds the weights.
        current: (1 or N, g*g, C), features of the frame; 1 if all objects share them.
        current_positions: (1, g*g, C).
        memories: of N objects, in groups.

    Returns:
        (N, g*g, C).
    """
    layers, rotation = cast(Sequence[Any], attention.layers), _rotation(attention)
    x = current + 0.1 * current_positions
    x = x + _self_attention(layers[0].self_attn, layers[0].layer_norm1(x), rotation)
    rows, found = 0, list[Tensor]()
    for part in memories:
        n = len(part.tokens)
        found.append(_run_layers(layers, x if len(x) == 1 else x[rows : rows + n], part, rotation))
        rows += n
    return attention.layer_norm(torch.cat(found))


def _run_layers(layers: Sequence[Any], x: Tensor, memories: Memories, rotation: Tensor) -> Tensor:
    """Run all layers except the first self-attention, which `read_memories` has computed for all objects."""
    keys = memories.tokens + memories.positions
    for number, layer in enumerate(layers):
        if number:
            x = x + _self_attention(layer.self_attn, layer.layer_norm1(x), rotation)
        x = x + _cross_attention(layer.cross_attn_image, layer.layer_norm2(x), keys, memories, rotation)
        x = x + _feed_forward(layer, layer.layer_norm3(x))
    return x


def _rotation(attention: Sam2VideoMemoryAttention | Sam3TrackerVideoMemoryAttention) -> Tensor:
    """Return the rotary position embedding of the grid as complex numbers, (g*g, C/2)."""
    # (1, g*g, C), equal in both channels of a pair
    cos, sin = attention.rotary_emb(attention.layer_norm.weight, attention.position_ids)
    return torch.complex(cos[0, :, ::2].contiguous(), sin[0, :, ::2].contiguous())


def _rotate(tokens: Tensor, rotation: Tensor) -> Tensor:
    """Apply rotary positions in full precision: (N, K * g*g, C), K maps one after the other."""
    maps = tokens.unflatten(1, (-1, len(rotation)))
    pairs = torch.view_as_complex(maps.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2).to(tokens.dtype).flatten(1, 2)


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    """Run the feed-forward layer; on a CPU in chunks, since its hidden layer is eight times as wide."""
    parts = x.split(TOKENS_AT_ONCE, 1) if x.device.type == "cpu" else [x]
    return torch.cat([layer.linear2(layer.activation(layer.linear1(part))) for part in parts], 1)


def _self_attention(weights: Sam2VideoRoPEAttention, x: Tensor, rotation: Tensor) -> Tensor:
    query = _rotate(weights.q_proj(x), rotation * weights.scaling)
    return weights.o_proj(attend(query, _rotate(weights.k_proj(x), rotation), weights.v_proj(x)))


def _cross_attention(
    weights: Sam2VideoRoPEAttention, x: Tensor, keys: Tensor, memories: Memories, rotation: Tensor
) -> Tensor:
    memory = memories.tokens
    query = _rotate(weights.q_proj(x), rotation * weights.scaling).expand(len(memory), -1, -1)
    key = weights.k_proj(keys)  # (N, L, C)
    num_rotated = key.shape[1] - memories.num_pointer_tokens  # pointers have no spatial position
    key[:, :num_rotated] = _rotate(key[:, :num_rotated], rotation)
    if query.device.type == "cpu":  # attention weights sum to 1, so the bias of the projection can be added afterwards
        return weights.o_proj(weights.v_proj(attend(query, key, memory, memories.mask)))
    return weights.o_proj(attend(query, key, weights.v_proj(memory), memories.mask))
