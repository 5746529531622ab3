"""Convert fixations to strings of symbols, and compare two strings.

Flow: fixations -> nearest_symbols or label_symbols (-> repeated_by_time) -> string_similarity, edit_distance
    -> sequence.py, scanmatch.py.
Source: Needleman and Wunsch, 1970; Levenshtein, 1966; sequence score of Yang et al., CVPR 2020 (COCO-Search18).
Shapes: K fixations, C cluster centers, H W image, A B symbols of two strings.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Symbols = Sequence[int]


def as_points(points: ArrayLike) -> NDArray[np.float64]:
    """Convert fixations to an array (K, 2) xy; an empty list gives (0, 2).

    Raises:
        ValueError: not pairs, or not finite.
    """
    array = np.asarray(points, float)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise ValueError(f"fixations: got an array of shape {array.shape}, expected (K, 2) finite numbers, x before y")
    return array


def pixel_indices(points: ArrayLike, width: int, height: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column of each fixation's pixel, clamped to the image.

    Args:
        points: (K, 2) xy, px.
        width: W.
        height: H.

    Returns:
        (K,) rows, (K,) columns.
    """
    corners = np.floor(as_points(points))
    columns = np.clip(corners[:, 0], 0, width - 1).astype(np.intp)
    return np.clip(corners[:, 1], 0, height - 1).astype(np.intp), columns


def nearest_symbols(points: ArrayLike, centers: ArrayLike) -> list[int]:
    """Return the index of the nearest center of each fixation, the first on ties.

    Args:
        points: (K, 2) xy, px.
        centers: (C, 2) xy, px.

    Returns:
        K indices, 0..C - 1.
    """
    points, centers = as_points(points), as_points(centers)
    if not len(centers):
        raise ValueError("symbols: no cluster centers, expected at least one")
    squared = ((points[:, None] - centers[None]) ** 2).sum(-1)  # (K, C)
    return squared.argmin(1).tolist()


def label_symbols(points: ArrayLike, label_map: NDArray[np.integer]) -> list[int]:
    """Return the semantic label of each fixation's pixel.

    Args:
        points: (K, 2) xy, px of the map.
        label_map: (H, W) integer labels.

    Returns:
        K labels.
    """
    height, width = label_map.shape
    return label_map[pixel_indices(points, width, height)].tolist()


def repeated_by_time(symbols: Symbols, durations: Sequence[float], bin_ms: float = 50.0) -> list[int]:
    """Repeat each symbol once per full time bin of its fixation; fixations shorter than a bin are dropped.

    Args:
        symbols: (K,).
        durations: (K,) ms.
        bin_ms: Width of a bin, ms.
    """
    if len(symbols) != len(durations):
        raise ValueError(f"symbols: {len(symbols)} symbols and {len(durations)} durations, expected equal counts")
    if not bin_ms > 0:
        raise ValueError(f"symbols: time bins of {bin_ms} ms, expected more than 0")
    return [symbol for symbol, duration in zip(symbols, durations, strict=True) for _ in range(int(duration // bin_ms))]


def alignment_table(scores: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Compute the best global alignment score of every pair of prefixes.

    Args:
        scores: (A, B) substitution scores.
        gap: Score of an unmatched symbol, negative for a cost.

    Returns:
        (A + 1, B + 1); the last cell holds the score of the two whole strings.
    """
    rows, columns = scores.shape
    table = [[gap * column for column in range(columns + 1)]]
    for row, rewards in enumerate(scores.tolist(), 1):
        above, line = table[-1], [gap * row]
        for column, reward in enumerate(rewards):
            line.append(max(above[column] + reward, above[column + 1] + gap, line[column] + gap))
        table.append(line)
    return np.array(table, float)


def string_similarity(one: Symbols, other: Symbols, gap: float = 0.0) -> float:
    """Compute the global alignment score (match 1, mismatch 0) divided by the longer length.

    With gap 0 this is the longest common subsequence divided by the longer length.

    Returns:
        0..1 with gap 0; 1 for two empty strings (the published code divides 0 by 0).
    """
    return _similarity(tuple(one), tuple(other), gap)


@lru_cache(maxsize=100_000)  # most pack strings have one or two symbols and recur
def _similarity(one: tuple[int, ...], other: tuple[int, ...], gap: float) -> float:
    longer = max(len(one), len(other))
    if not longer:
        return 1.0
    same = np.equal.outer(np.asarray(one, int), np.asarray(other, int)).astype(float)  # (A, B)
    return float(alignment_table(same, gap)[-1, -1]) / longer


def edit_distance(one: Symbols, other: Symbols, substitution: int = 1) -> int:
    """Compute the Levenshtein distance of two strings.

    Args:
        one: A symbols.
        other: B symbols.
        substitution: Cost of a substitution; insertions and deletions cost 1.
    """
    return _distance(tuple(one), tuple(other), substitution)


@lru_cache(maxsize=100_000)
def _distance(one: tuple[int, ...], other: tuple[int, ...], substitution: int) -> int:
    above = list(range(len(other) + 1))
    for row, symbol in enumerate(one, 1):
        line = [row]
        for column, partner in enumerate(other):
            replaced = above[column] + (0 if symbol == partner else substitution)
            line.append(min(replaced, above[column + 1] + 1, line[column] + 1))
        above = line
    return above[-1]
