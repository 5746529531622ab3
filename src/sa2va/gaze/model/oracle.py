"""Draw belief maps from what is known of a target, where no model says where it is.

Flow: Trial.target -> box_map -> the belief of every pack, for training on recordings without pictures.
Shapes: g h g w grid of cells on the canvas.
"""

import torch
from torch import Tensor

from sa2va.gaze.metrics.target import Box
from sa2va.gaze.model.density import Grid


def box_map(box: Box | None, grid: Grid) -> Tensor:
    """Share of each cell that a box covers, (g h, g w); without a box, no belief at all (zeros).

    Args:
        box: px of the canvas; what lies beyond the canvas is cut off.
        grid: of cells.

    Raises:
        ValueError: nothing of it is on the canvas.
    """
    rows, columns = grid.shape
    if box is None:
        return torch.zeros(rows, columns)
    x0, y0, x1, y1 = box
    cover = _overlap(y0, y1, rows, grid.cell)[:, None] * _overlap(x0, x1, columns, grid.cell)
    if not cover.any():
        raise ValueError(f"target box {tuple(round(side, 1) for side in box)}: nothing of it is on the canvas")
    return cover


def _overlap(low: float, high: float, count: int, cell: int) -> Tensor:
    """Share of each of `count` cells in a row that lies between two places, px; a thin box covers a whole px."""
    high = max(high, low + 1)
    begin = torch.arange(count) * float(cell)
    return ((begin + cell).clamp(max=high) - begin.clamp(min=low)).clamp(min=0) / cell
