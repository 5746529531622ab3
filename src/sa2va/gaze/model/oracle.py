"""Rasterize a target box into an oracle belief map.

Flow: Trial.target -> box_map -> the belief of every pack, for recordings without images.
Shapes: g h g w grid of cells on the canvas.
"""

import torch
from torch import Tensor

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.model.density import Grid


def box_map(box: Box | None, grid: Grid) -> Tensor:
    """Return the share of each cell that a box covers, (g h, g w); zeros without a box.

    Args:
        box: x0, y0, x1, y1 px of the canvas, clipped to it.
        grid: Cells of the canvas.

    Raises:
        ValueError: the box lies outside the canvas.
    """
    rows, columns = grid.shape
    if box is None:
        return torch.zeros(rows, columns)
    x0, y0, x1, y1 = box
    cover = _overlap(y0, y1, rows, grid.cell)[:, None] * _overlap(x0, x1, columns, grid.cell)
    if not cover.any():
        raise ValueError(
            f"target box {tuple(round(side, 1) for side in box)} px lies outside the canvas of "
            f"{CANVAS[0]} x {CANVAS[1]} px; give a box in canvas px"
        )
    return cover


def _overlap(low: float, high: float, count: int, cell: int) -> Tensor:
    """Return the share of each of `count` cells between two coordinates, px; at least one px is covered."""
    high = max(high, low + 1)
    begin = torch.arange(count) * float(cell)
    return ((begin + cell).clamp(max=high) - begin.clamp(min=low)).clamp(min=0) / cell
