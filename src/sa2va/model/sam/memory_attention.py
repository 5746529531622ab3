"""Compute SAM 2's memory attention faster than Transformers' module, with the module's weights.

Flow: tracker.py -> Sam2.attend -> read_memories -> features of each object -> decoder. Training uses Transformers'
    module, which is the reference.
Source: SAM 2, arXiv:2408.00714, section 4. The order of summation differs. The first self-attention runs once for all
    objects. Rotary positions are computed once and applied in place. On a CPU, objects run one at a time to reuse
    buffers, and attention averages the 64 memory channels before the value projection.
Shapes: N objects, C width, g side of the coarsest grid, L memory tokens of one object, P of them pointer tokens.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention, Sam2VideoRoPEAttention
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoMemoryAttention

from sa2va.model.attention import attend, takes_blocks

TOKENS_AT_ONCE = 1024  # chunk of a feed-forward layer on a CPU
SUPPORTED = (Sam2VideoMemoryAttention, Sam3TrackerVideoMemoryAttention)  # submodules have the same names


Projection = tuple[Tensor, Tensor]  # weight (outputs, inputs) and bias


class Merged(NamedTuple):
    """Projections that read the same tokens, as one product each: a GPU launches fewer kernels."""

    own: tuple[Projection, ...]  # per layer: scaled queries, keys and values of the self-attention
    keys: Projection  # of the cross-attention of all layers
    values: Projection


def merge_projections(attention: nn.Module) -> Merged | None:
    """Merge the projections of a module that `can_read` supports; None = another module, or gradients are wanted."""
    if not can_read(attention) or torch.is_grad_enabled():
        return None
    layers = cast(Sequence[Any], attention.layers)
    own = [layer.self_attn for layer in layers]
    cross = [layer.cross_attn_image for layer in layers]
    return Merged(
        tuple(_merge([one.q_proj, one.k_proj, one.v_proj], [one.scaling, 1, 1]) for one in own),
        _merge([one.k_proj for one in cross], [1] * len(cross)),
        _merge([one.v_proj for one in cross], [1] * len(cross)),
    )


def _merge(parts: Sequence[nn.Linear], scales: Sequence[float]) -> Projection:
    pairs = list(zip(parts, scales, strict=True))
    return torch.cat([part.weight * scale for part, scale in pairs]), torch.cat([p.bias * scale for p, scale in pairs])


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
    merged: Merged | None = None,
) -> Tensor:
    """Run memory attention.

    Args:
        attention: Transformers' module, which holds the weights.
        current: (1 or N, g*g, C), features of the frame; 1 if all objects share them.
        current_positions: (1, g*g, C).
        memories: of N objects, in groups.
        merged: `merge_projections(attention)`; None = each projection by itself.

    Returns:
        (N, g*g, C).
    """
    layers, turns = cast(Sequence[Any], attention.layers), _turns(attention, current.device)
    x = current + 0.1 * current_positions
    x = x + _self_attention(layers[0].self_attn, layers[0].layer_norm1(x), turns, merged and merged.own[0])
    rows, found = 0, []
    for part in memories:
        n = len(part.tokens)
        found.append(_run_layers(layers, x if len(x) == 1 else x[rows : rows + n], part, turns, merged))
        rows += n
    return attention.layer_norm(torch.cat(found))


def _run_layers(layers: Sequence[Any], x: Tensor, memories: Memories, turns: "Turns", merged: Merged | None) -> Tensor:
    """Run all layers except the first self-attention, which `read_memories` has computed for all objects."""
    keys = memories.tokens + memories.positions
    pairs = None if merged is None else _project(merged, keys, memories, turns.key, len(layers))
    for number, layer in enumerate(layers):
        if number:
            own = merged and merged.own[number]
            x = x + _self_attention(layer.self_attn, layer.layer_norm1(x), turns, own)
        cross, queries = layer.cross_attn_image, layer.layer_norm2(x)
        if pairs is None:
            x = x + _cross_attention(cross, queries, keys, memories, turns)
        else:
            query = _rotate(cross.q_proj(queries), turns.query).expand(len(keys), -1, -1)
            x = x + cross.o_proj(attend(query, *pairs[number], memories.mask))
        x = x + _feed_forward(layer, layer.layer_norm3(x))
    return x


class Rotation(NamedTuple):
    """Rotary position embedding of the grid: x -> x * cos + (x with the channels of each pair swapped) * sin."""

    cos: Tensor  # (g*g, C), float32
    sin: Tensor  # (g*g, C), negative in the first channel of a pair


class Turns(NamedTuple):
    """Rotations of queries, which are scaled, and of keys."""

    query: Rotation
    key: Rotation


def _turns(attention: Sam2VideoMemoryAttention | Sam3TrackerVideoMemoryAttention, device: torch.device) -> Turns:
    config, weights = cast(Any, attention.config), cast(Any, attention.layers)[0].self_attn
    sides, theta = tuple(config.memory_attention_rope_feat_sizes), config.rope_parameters["rope_theta"]
    query, key = (rotation(sides, weights.internal_dim, theta, scale, device) for scale in (weights.scaling, 1.0))
    return Turns(query, key)


@torch.compiler.assume_constant_result
def rotation(sides: tuple[int, int], width: int, theta: float, scaling: float, device: torch.device) -> Rotation:
    """Return the rotary position embedding of a grid, computed once; torch.compile keeps it as a constant.

    Args:
        sides: columns and rows of the grid.
        width: C.
        theta: base of the frequencies.
        scaling: factor of the rotated tokens.
        device: where to keep it.
    """
    return _compute_rotation(sides, width, theta, scaling, device)


@lru_cache(maxsize=16)
def _compute_rotation(
    sides: tuple[int, int], width: int, theta: float, scaling: float, device: torch.device
) -> Rotation:
    """Compute a rotation as Transformers does, but always in float32: a bfloat16 module rounds its frequencies."""
    with torch.device("cpu"):
        frequencies = 1.0 / theta ** (torch.arange(0, width // 2, 2, dtype=torch.float32) / (width // 2))  # (C/4,)
        columns, rows = (torch.arange(side, dtype=torch.float32) for side in sides)
    places = torch.stack([columns.repeat(len(rows)), rows.repeat_interleave(len(columns))], 1)  # (g*g, 2)
    angles = (places[..., None] * frequencies).flatten(1)  # (g*g, C/2)
    cos, sin = angles.cos() * scaling, angles.sin() * scaling
    return Rotation(cos.repeat_interleave(2, -1).to(device), torch.stack([-sin, sin], -1).flatten(1).to(device))


def _rotate(tokens: Tensor, turn: Rotation) -> Tensor:
    """Apply rotary positions in place, in full precision: (N, K * g*g, C), K maps one after the other."""
    maps = tokens.unflatten(1, (-1, len(turn.cos)))
    for part in maps.split(1, 1) if takes_blocks(tokens) else [maps]:  # a map fits a CPU's cache
        swapped = part.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        part.copy_((part * turn.cos).add_(swapped * turn.sin))
    return tokens


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    """Run the feed-forward layer; on a CPU in chunks, since its hidden layer is eight times as wide."""
    parts = x.split(TOKENS_AT_ONCE, 1) if takes_blocks(x) else [x]
    return torch.cat([layer.linear2(layer.activation(layer.linear1(part))) for part in parts], 1)


def _self_attention(weights: Sam2VideoRoPEAttention, x: Tensor, turns: Turns, merged: Projection | None) -> Tensor:
    if merged is None:
        query, key = _rotate(weights.q_proj(x), turns.query), _rotate(weights.k_proj(x), turns.key)
        return weights.o_proj(attend(query, key, weights.v_proj(x)))
    both, value = F.linear(x, *merged).unflatten(-1, (3, -1)).split([2, 1], 2)  # (N, g*g, 2 and 1, C)
    swapped = both.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    query, key = (both * turns.key.cos[:, None] + swapped * turns.key.sin[:, None]).to(both.dtype).unbind(2)
    return weights.o_proj(attend(query, key, value[:, :, 0]))


def _project(
    merged: Merged, keys: Tensor, memories: Memories, turn: Rotation, num_layers: int
) -> list[tuple[Tensor, Tensor]]:
    """Project the memory to keys and values (N, L, C) of all layers at once."""
    projected = F.linear(keys, *merged.keys)  # (N, L, layers * C)
    wide = Rotation(turn.cos.repeat(1, num_layers), turn.sin.repeat(1, num_layers))
    _rotate(projected[:, : projected.shape[1] - memories.num_pointer_tokens], wide)
    values = F.linear(memories.tokens, *merged.values)
    return list(zip(projected.chunk(num_layers, -1), values.chunk(num_layers, -1), strict=True))


def _cross_attention(
    weights: Sam2VideoRoPEAttention, x: Tensor, keys: Tensor, memories: Memories, turns: Turns
) -> Tensor:
    memory = memories.tokens
    query = _rotate(weights.q_proj(x), turns.query).expand(len(memory), -1, -1)
    key = weights.k_proj(keys)  # (N, L, C)
    _rotate(key[:, : key.shape[1] - memories.num_pointer_tokens], turns.key)  # pointers have no spatial position
    if takes_blocks(query):  # attention weights sum to 1, so the bias of the projection can be added afterwards
        return weights.o_proj(weights.v_proj(attend(query, key, memory, memories.mask)))
    return weights.o_proj(attend(query, key, weights.v_proj(memory), memories.mask))
