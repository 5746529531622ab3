"""Attend to maps of memory column by column of their grid, in fewer products than key by key.

Flow: memory_attention.py, on a CPU in float32 -> average_columns -> averages of memory, 64 wide.
Source: rotary positions in two axes, as in SAM 2, arXiv:2408.00714, section 4. One half of a key's channels is turned
    by its column, the other by its row. Keys of a column share the first turn, so it is applied to the query, together
    with the projection of the keys: that half of a score is a product over the 64 channels of memory and not over the
    128 of a projected key.
Shapes: Q queries, C width of a query, g side of the grid, K maps, P pointer tokens, R rows of queries in work.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.sam.attention import OnlineSoftmax, of_all_threads

ROWS = 1024  # queries in work for each thread: their scores for one column stay in a CPU's caches
LARGE_GRID = 32  # columns of smaller grids are too short for fast products


def suits_columns(query: Tensor, turn: Tensor) -> bool:
    """Tell whether columns are the quicker way for queries (..., C) on the places of a grid, complex (g*g, C/2)."""
    return query.device.type == "cpu" and query.dtype == torch.float32 and len(turn) >= LARGE_GRID**2


def rotate(tokens: Tensor, turn: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels, in full precision.

    Args:
        tokens: (..., C).
        turn: complex (..., C/2), broadcast.
    """
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(tokens.dtype)


def average_columns(
    project: nn.Linear, query: Tensor, keys: Tensor, memory: Tensor, turn: Tensor, num_pointer_tokens: int
) -> Tensor:
    """Average one object's memory by how well its keys fit the queries.

    Args:
        project: 64 -> C, of the keys.
        query: (Q, C), turned and scaled.
        keys: (K * g*g + P, 64), maps first, before the projection.
        memory: (K * g*g + P, 64).
        turn: complex (g*g, C/2), the places of one map, row by row.
        num_pointer_tokens: P.

    Returns:
        (Q, 64).
    """
    side, half = int(len(turn) ** 0.5), query.shape[1] // 2
    by_row, by_column = turn.view(side, side, -1)[:, 0, half // 2 :], turn[:side, : half // 2]  # each (g, C/4)
    num_turned = len(keys) - num_pointer_tokens

    maps = keys[:num_turned].view(-1, side, side, keys.shape[1])
    row_keys = rotate(F.linear(maps, project.weight[half:], project.bias[half:]), by_row[:, None])  # (K, g, g, C/2)
    row_keys, column_keys, values = _columns(row_keys), _columns(maps), _columns(memory[:num_turned].view_as(maps))
    turned = torch.cat([project.weight[:half], project.bias[:half, None]], 1).T  # (64 + 1, C/2)
    turned = rotate(turned, by_column[:, None])  # (g, 64 + 1, C/2)
    pointers, pointer_values = project(keys[num_turned:]), memory[num_turned:]

    found = []
    for part in query.split(of_all_threads(ROWS)):
        for_column, for_row = part[:, :half].contiguous(), part[:, half:].contiguous()
        softmax = OnlineSoftmax(part, memory.shape[1])
        if len(pointers):
            softmax.add(part @ pointers.T, pointer_values)
        for column in range(side):
            asked = for_column @ turned[column].T  # (R, 64 + 1), the last one is the bias
            scores = for_row @ row_keys[column].T
            torch.addmm(scores, asked[:, :-1], column_keys[column].T, out=scores)
            softmax.add(scores, values[column], asked[:, -1:])
        found.append(softmax.result())
    return torch.cat(found)


def _columns(maps: Tensor) -> Tensor:
    """Gather maps (K, g, g, D) by column: (g, K * g, D)."""
    return maps.permute(2, 0, 1, 3).flatten(1, 2).contiguous()
