"""Compute ScanMatch, the global alignment of two scanpaths as strings of grid cells.

Flow: fixations -> grid_symbols (-> strings.repeated_by_time) -> scanmatch.
Source: Cristino et al., Behavior Research Methods 2010; settings for OSIE: 12 x 12 cells, threshold 3.5, gap 0.
Shapes: K fixations, G cells.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.metrics.strings import Symbols, alignment_table, as_points

GRID = (12, 12)  # columns, rows
THRESHOLD = 3.5  # score of identical cells; minus 1 per cell of distance
PUBLISHED_SCREEN = (800, 600)  # px, resolution of the published code's cell lookup


def grid_symbols(
    points: ArrayLike, width: int, height: int, grid: tuple[int, int] = GRID, *, published: bool = False
) -> list[int]:
    """Convert fixations to indices of grid cells, row by row.

    Args:
        points: (K, 2) xy, px, clamped to the canvas.
        width: Width of the canvas, px.
        height: Height of the canvas, px.
        grid: Columns, rows.
        published: Round down to pixels of an 800 x 600 screen first, which moves fixations just past a cell border into
            the cell before.

    Returns:
        K indices, 0..columns * rows - 1.
    """
    shares = as_points(points) / (width, height)
    if published:
        shares = np.floor(shares * PUBLISHED_SCREEN) / PUBLISHED_SCREEN
    cells = np.clip(np.floor(shares * grid), 0, np.array(grid) - 1).astype(int)
    return (cells[:, 1] * grid[0] + cells[:, 0]).tolist()


@lru_cache(maxsize=8)
def substitution_scores(grid: tuple[int, int] = GRID, threshold: float = THRESHOLD) -> NDArray[np.float64]:
    """Compute the substitution scores of cells: the threshold minus their distance in cells.

    Returns:
        (G, G); the diagonal holds the threshold.
    """
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[0])
    return threshold - np.hypot(rows[:, None] - rows, columns[:, None] - columns)


def scanmatch(
    one: Symbols,
    other: Symbols,
    scores: NDArray[np.float64] | None = None,
    gap: float = 0.0,
    *,
    published: bool = False,
) -> float:
    """Compute the best global alignment score, normalized by that of the longer string with itself.

    Args:
        one: Cells of the first scanpath.
        other: Cells of the second.
        scores: (G, G) substitution scores; None = substitution_scores().
        gap: Score of an unmatched fixation, negative for a cost.
        published: Use the maximum of the alignment table, which rewards partial matches, instead of its last cell. The
            two are equal for gap 0.

    Returns:
        At most 1; at least 0 with gap 0. 1 for two empty strings.
    """
    longer = max(len(one), len(other))
    if not longer:
        return 1.0
    rewards = substitution_scores() if scores is None else np.asarray(scores, float)
    table = alignment_table(rewards[np.ix_(np.asarray(one, int), np.asarray(other, int))], gap)
    best = table.max() if published else table[-1, -1]
    return float(best) / (float(rewards.max()) * longer)
