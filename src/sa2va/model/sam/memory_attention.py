"""Let the features of a frame read memories with SAM 2's own weights, in fewer steps than the library takes.

Flow: tracker.py -> Sam2.attend -> read_memories -> features of each object -> decoder. While learning the library's
    module is used instead: it is the reference.
Source: SAM 2, arXiv:2408.00714, section 4. The sums are the same, their order differs: what has not met a memory yet
    is computed once for all objects; memories, 64 wide, are averaged before they are projected and not after it, on a
    CPU, which takes one object after the other, so that pages of memory are used again and not asked for anew; large
    grids there go by column_attention.py; the turn of rotary positions is one product of complex numbers.
Shapes: N objects, C width, g side of the coarsest grid, L memory tokens of one object, of which P are of pointers.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention, Sam2VideoRoPEAttention
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoMemoryAttention

from sa2va.model.sam.attention import average
from sa2va.model.sam.column_attention import average_columns, rotate, suits_columns

PLACES_AT_ONCE = 1024  # in a feed-forward layer
KNOWN = (Sam2VideoMemoryAttention, Sam3TrackerVideoMemoryAttention)  # alike, part by part


def can_read(attention: nn.Module) -> bool:
    """Tell whether `read_memories` knows this module: SAM 2's or SAM 3's, with one head, as in all published ones."""
    if not isinstance(attention, KNOWN):
        return False
    return attention.config.memory_attention_num_attention_heads == 1


def read_memories(
    attention: Sam2VideoMemoryAttention | Sam3TrackerVideoMemoryAttention,
    current: Tensor,
    current_positions: Tensor,
    memory: Tensor,
    positions: Tensor,
    *,
    num_pointer_tokens: int,
) -> Tensor:
    """Attend to memory.

    Args:
        attention: the library's module, for its weights.
        current: (1 or N, g*g, C), features of the frame; 1 where all objects see the same.
        current_positions: (1, g*g, C).
        memory: (N, L, 64), maps first and pointers last.
        positions: (N, L, 64).
        num_pointer_tokens: P.

    Returns:
        (N, g*g, C).
    """
    layers, turn = cast(Sequence[Any], attention.layers), _turn(attention)
    x = current + 0.1 * current_positions
    x = x + _attend_to_itself(layers[0].self_attn, layers[0].layer_norm1(x), turn)  # once for all where x has one row
    together = 1 if x.device.type == "cpu" else len(memory)
    found = [
        _read_on(layers, x if len(x) == 1 else x[n : n + together], *pair, turn, num_pointer_tokens)
        for n, pair in enumerate(zip(memory.split(together), positions.split(together), strict=True))
    ]
    return attention.layer_norm(torch.cat(found))


def _read_on(
    layers: Sequence[Any], x: Tensor, memory: Tensor, positions: Tensor, turn: Tensor, num_pointer_tokens: int
) -> Tensor:
    """Go through all layers but for the first one's attention to itself; a CPU takes one object after the other."""
    keys = memory + positions
    for number, layer in enumerate(layers):
        if number:
            x = x + _attend_to_itself(layer.self_attn, layer.layer_norm1(x), turn)
        x = x + _attend_to(layer.cross_attn_image, layer.layer_norm2(x), keys, memory, turn, num_pointer_tokens)
        x = x + _feed_forward(layer, layer.layer_norm3(x))
    return x


def _turn(attention: Sam2VideoMemoryAttention | Sam3TrackerVideoMemoryAttention) -> Tensor:
    """Return the rotary positions of the grid as complex numbers, (g*g, C/2)."""
    cos, sin = attention.rotary_emb(attention.layer_norm.weight, attention.position_ids)  # (1, g*g, C), pairs alike
    return torch.complex(cos[0, :, ::2].contiguous(), sin[0, :, ::2].contiguous())


def _rotate(tokens: Tensor, turn: Tensor) -> Tensor:
    """Turn tokens by their place: (N, K * g*g, C), K maps one after the other."""
    return rotate(tokens.unflatten(1, (-1, len(turn))), turn).flatten(1, 2)


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    """Take some places at a time: what is in between is eight times as wide, and a CPU would fetch new pages for it."""
    parts = x.split(PLACES_AT_ONCE, 1) if x.device.type == "cpu" else [x]
    return torch.cat([layer.linear2(layer.activation(layer.linear1(part))) for part in parts], 1)


def _attend_to_itself(weights: Sam2VideoRoPEAttention, x: Tensor, turn: Tensor) -> Tensor:
    query = _rotate(weights.q_proj(x), turn * weights.scaling)
    return weights.o_proj(average(query, _rotate(weights.k_proj(x), turn), weights.v_proj(x)))


def _attend_to(
    weights: Sam2VideoRoPEAttention, x: Tensor, keys: Tensor, memory: Tensor, turn: Tensor, num_pointer_tokens: int
) -> Tensor:
    query = _rotate(weights.q_proj(x), turn * weights.scaling)
    if suits_columns(query, turn):
        objects = zip(query.expand(len(memory), -1, -1), keys, memory, strict=True)
        found = [average_columns(weights.k_proj, *one, turn, num_pointer_tokens) for one in objects]
        return weights.o_proj(weights.v_proj(torch.stack(found)))
    query, key = query.expand(len(memory), -1, -1), weights.k_proj(keys)  # (N, L, C)
    num_turned = key.shape[1] - num_pointer_tokens  # pointers have no place
    key[:, :num_turned] = _rotate(key[:, :num_turned], turn)
    if query.device.type == "cpu":
        return weights.o_proj(weights.v_proj(average(query, key, memory)))  # weights of an average sum to 1
    return weights.o_proj(average(query, key, weights.v_proj(memory)))
