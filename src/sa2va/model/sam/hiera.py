"""Run SAM 2's image encoder with fewer copies: tokens stay in window order, and a CPU takes them part by part.

Flow: Sam2 -> use_window_order (once); Sam2.encode_maps -> WindowEncoder (backbone, then feature pyramid) -> three maps.
Source: Hiera, arXiv:2306.00989; SAM 2, arXiv:2408.00714. The layers and their weights are Transformers'; its forward
    pass also computes attention weights and position encodings that nobody reads.
Shapes: B pictures, H W grid of a stage, w side of its windows, N windows of all pictures, C width of a stage.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, Sam2HieraDetModel, Sam2VisionModel
from transformers.models.sam2.modeling_sam2 import (
    Sam2MultiScaleAttention,
    Sam2MultiScaleBlock,
    Sam2VisionEncoderOutput,
    Sam2VisionNeck,
    eager_attention_forward,
)

Grid = tuple[int, int]  # H, W
# Number of tokens that a CPU thread takes through a block together, times the bytes of a value, such that the hidden
# layer (4C wide) fits the caches. Fewer would multiply slower, since each product rearranges its weights.
TOKEN_BYTES_IN_PART = 4096


class WindowBlock(Sam2MultiScaleBlock):
    """Block that takes and returns tokens in window order, see `_choose_order`."""

    def forward(self, hidden_states: Tensor, **other: Any) -> Tensor:
        """Run attention within windows and the MLP: (N, h, w, C) -> (N, h', w', C')."""
        return _in_parts(partial(_run_block, self), hidden_states)


class WindowEncoder(Sam2VisionModel):
    """Image encoder whose blocks are WindowBlocks; it computes neither attention weights nor position encodings."""

    def forward(self, pixel_values: Tensor, **other: Any) -> Sam2VisionEncoderOutput:
        """Encode pictures (B, 3, S, S) as feature maps of one width, finest first."""
        stages = run_backbone(self.backbone, pixel_values)
        found = Sam2VisionEncoderOutput(last_hidden_state=stages[-1])
        maps = run_neck(self.neck, stages)[: self.num_feature_levels]
        found["fpn_hidden_states"] = tuple(maps)  # the class names the type of one map
        return found


def use_window_order(encoder: Sam2VisionModel) -> None:
    """Let a native image encoder and its blocks run the forward passes of this file, with the weights they have.

    Their classes change, so that hooks, gradient checkpointing and sharding find the same modules.
    """
    encoder.__class__ = WindowEncoder
    for block in encoder.backbone.blocks:
        block.__class__ = WindowBlock


def run_backbone(backbone: Sam2HieraDetModel, pixels: Tensor) -> list[Tensor]:
    """Run the blocks: (B, 3, S, S) -> the output of each stage (B, H, W, C), finest first.

    Tokens are kept in the window order of the block, so that consecutive blocks with equal windows need no copy.
    """
    tokens = _embed_patches(backbone, pixels)
    grid: Grid = (tokens.shape[1], tokens.shape[2])
    side, stages = 0, []
    for number, block in enumerate(backbone.blocks):
        assert isinstance(block, WindowBlock)
        stride, wanted = _stride(block), _choose_order(block, grid)
        if side != wanted:
            tokens = _split_windows(_merge_windows(tokens, side, grid), wanted)
        tokens = block(tokens)
        side, grid = wanted // stride[0], (grid[0] // stride[0], grid[1] // stride[1])
        if number in backbone.stage_ends:
            stages.append(_merge_windows(tokens, side, grid))
    return stages


def _embed_patches(backbone: Sam2HieraDetModel, pixels: Tensor) -> Tensor:
    """Embed patches and add their positions: (B, 3, S, S) -> (B, H, W, C).

    Channels are last in memory from the start, as all blocks need them.
    """
    last = torch.channels_last
    tokens = backbone.patch_embed(pixels.contiguous(memory_format=last))
    grid, window = (tokens.shape[1], tokens.shape[2]), backbone.pos_embed_window  # (1, C, w, w)
    across = F.interpolate(backbone.pos_embed.contiguous(memory_format=last), size=grid, mode="bicubic")
    cells = across.unflatten(3, (-1, window.shape[3])).unflatten(2, (-1, window.shape[2]))  # (1, C, H/w, w, W/w, w)
    cells += window[:, :, None, :, None]
    return tokens + across.permute(0, 2, 3, 1)


def run_neck(neck: Sam2VisionNeck, stages: list[Tensor]) -> list[Tensor]:
    """Bring the stages to one width and add the coarser map where configured: (B, H, W, C) -> (B, C', H, W) each.

    The list of stages is emptied, so that each is freed once it is projected.
    """
    last, maps = len(stages) - 1, []
    for level in range(last, -1, -1):
        projection: Any = neck.convs[last - level]  # a convolution, or one with LoRA weights
        found = projection(stages.pop().permute(0, 3, 1, 2).to(projection.weight.dtype))
        if level != last and level in (neck.fpn_top_down_levels or ()):
            found = found + F.interpolate(maps[-1].float(), scale_factor=2.0, mode="nearest").to(found.dtype)
        maps.append(found)
    return maps[::-1]


def _choose_order(block: Sam2MultiScaleBlock, grid: Grid) -> int:
    """Return the side of the windows in whose order a block takes its tokens; 0 is the order of the picture."""
    side = block.window_size
    assert isinstance(side, int)
    divides = side and not any(size % side for size in grid) and not any(side % step for step in _stride(block))
    return side if divides else 0


def _split_windows(tokens: Tensor, side: int) -> Tensor:
    """Put tokens (B, H, W, C) into window order (N, w, w, C); side 0 leaves them as they are."""
    if not side:
        return tokens
    height, width = tokens.shape[1] // side, tokens.shape[2] // side
    return tokens.unflatten(2, (width, side)).unflatten(1, (height, side)).transpose(2, 3).flatten(0, 2)


def _merge_windows(tokens: Tensor, side: int, grid: Grid) -> Tensor:
    """Put tokens (N, w, w, C) back into the order of the picture (B, H, W, C); side 0 leaves them as they are."""
    if not side:
        return tokens
    windows = tokens.unflatten(0, (-1, grid[0] // side, grid[1] // side))
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _in_parts(step: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Apply a function of independent rows, on a CPU a part of the rows at a time unless they require gradients.

    Large intermediate values would leave the caches, and the first write to newly allocated memory is slow.
    """
    recorded = torch.is_grad_enabled() and tokens.requires_grad
    if tokens.device.type != "cpu" or recorded or torch.compiler.is_compiling():
        return step(tokens)
    num_tokens = TOKEN_BYTES_IN_PART // tokens.element_size() * torch.get_num_threads()
    rows = max(1, num_tokens // tokens[0, ..., 0].numel())
    if rows >= len(tokens):
        return step(tokens)
    found = None
    for start in range(0, len(tokens), rows):
        part = step(tokens[start : start + rows])
        if found is None:
            found = part.new_empty(len(tokens), *part.shape[1:])
        found[start : start + rows] = part
    assert found is not None
    return found


def _run_block(block: Sam2MultiScaleBlock, tokens: Tensor) -> Tensor:
    """Run attention within windows and the MLP: (N, h, w, C) -> (N, h', w', C'), smaller where queries are pooled."""
    normed = block.layer_norm1(tokens)
    shortcut = tokens if block.dim == block.dim_out else _pool(block.proj(normed), _stride(block))
    if not block.window_size or tokens.shape[1] == tokens.shape[2] == block.window_size:
        attended = _attend(block.attn, normed)
    else:
        attended = _attend_padded(block, normed, (shortcut.shape[1], shortcut.shape[2]))
    tokens = shortcut + attended
    rows = tokens.flatten(0, 2)
    return _in_parts(lambda part: part + block.mlp(block.layer_norm2(part)), rows).view_as(tokens)


def _attend_padded(block: Sam2MultiScaleBlock, normed: Tensor, grid: Grid) -> Tensor:
    """Run attention in windows that do not divide the grid: (B, H, W, C) -> (B, *grid, C').

    As in Transformers, the grid is filled up with zeros, which are visible keys.
    """
    side = block.window_size
    assert isinstance(side, int)
    missing = [-size % side for size in normed.shape[1:3]]
    padded = F.pad(normed, (0, 0, 0, missing[1], 0, missing[0]))
    attended = _in_parts(partial(_attend, block.attn), _split_windows(padded, side))
    side //= _stride(block)[0]
    whole = (grid[0] + -grid[0] % side, grid[1] + -grid[1] % side)
    return _merge_windows(attended, side, whole)[:, : grid[0], : grid[1]]


def _attend(attention: Sam2MultiScaleAttention, tokens: Tensor) -> Tensor:
    """Run attention among the tokens of each window: (N, h, w, C) -> (N, h', w', C')."""
    count, heads = len(tokens), attention.num_attention_heads
    query, key, value = attention.qkv(tokens).chunk(3, -1)  # (N, h, w, C')
    query = _pool(query, _stride(attention))
    grid = query.shape[1:3]
    query, key, value = (part.reshape(count, -1, heads, part.shape[-1] // heads) for part in (query, key, value))
    # Which one it is can be set as in Transformers: training sets another than Sam2.
    attend = AttentionInterface().get_interface(attention.config._attn_implementation, eager_attention_forward)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    attended, _ = attend(attention, query, key, value, None, scaling=attention.scale)
    return attention.proj(attended.reshape(count, *grid, -1))


def _stride(layer: Sam2MultiScaleBlock | Sam2MultiScaleAttention) -> Grid:
    """Return the stride at which queries are pooled."""
    stride = layer.query_stride or 1
    return (stride, stride) if isinstance(stride, int) else (stride[0], stride[1])


def _pool(tokens: Tensor, stride: Grid) -> Tensor:
    """Keep the largest value of each cell of stride x stride tokens: (N, h, w, C) -> (N, h', w', C)."""
    if stride == (1, 1):
        return tokens
    return F.max_pool2d(tokens.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1)
