"""Trace the outlines of masks as polygons whose raster is the mask, pixel for pixel.

Flow: visible mask of a drawn object -> trace_outlines -> polygons of COCO, or trace_pixels -> those of ReasonSeg.
Shapes: H, W picture; the corners of pixel (x, y) are (x..x+1, y..y+1).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.masks import bbox

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up: the next entry turns right


def trace_outlines(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Trace a mask as polygons along the borders of its pixels.

    Each 4-connected component is one polygon. Its holes are joined to it by lines that are walked both ways, so that
    a raster by the even-odd rule leaves them out.

    Args:
        mask: bool (H, W).

    Returns:
        Polygons [x0, y0, x1, y1, ...] px, top to bottom; `masks.polygons_to_mask` of them gives the mask.
    """
    box = bbox(mask)
    if box is None:
        return []
    left, top, right, bottom = (int(side) for side in box)
    count, labels = cv2.connectedComponents(mask[top:bottom, left:right].astype(np.uint8), connectivity=4)
    return [_trace_component(labels == label, left, top) for label in range(1, count)]


def trace_pixels(mask: NDArray[np.bool_]) -> list[list[list[int]]]:
    """Trace a mask as polygons through its outermost pixels, as ReasonSeg is painted: see data/reasonseg.py.

    A component with a hole is cut through the hole, since such a polygon cannot have one.

    Args:
        mask: bool (H, W).

    Returns:
        Polygons [[x, y], ...] px, of at least three corners each, which may be the same.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    polygons = []
    for label in range(1, count):
        part = labels == label
        contours, tree = cv2.findContours(part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        outer = next(row for row in range(len(contours)) if tree[0, row, 3] < 0)
        holes = [contour for row, contour in enumerate(contours) if row != outer]
        if holes:
            left, right = part.copy(), part.copy()
            middle = (int(holes[0][..., 0].min()) + int(holes[0][..., 0].max())) // 2
            left[:, middle:] = right[:, :middle] = False
            polygons += [*trace_pixels(left), *trace_pixels(right)]
        else:
            corners = contours[outer][:, 0].tolist()
            polygons.append(corners + corners[-1:] * (3 - len(corners)))
    return polygons


def _trace_component(mask: NDArray[np.bool_], left: int, top: int) -> list[int]:
    """Trace one component: the outer border first, then each hole and the way back."""
    outer, *holes = _find_loops(mask)
    corners = list(outer)
    for hole in holes:
        corners += [outer[0], *hole, hole[0]]
    if holes:
        corners.append(outer[0])
    return [place for x, y in corners for place in (x + left, y + top)]


def _find_loops(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """List the closed borders of a component by their corners, the one with its topmost pixel first.

    The mask lies to the right of each step. Where two pixels touch at a corner only, the walk turns right, around the
    pixel it comes from.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    starts = (  # pixels with a border on each side, and the corner where its step begins
        (inside & ~padded[:-2, 1:-1], 0, 0),
        (inside & ~padded[1:-1, 2:], 1, 0),
        (inside & ~padded[2:, 1:-1], 1, 1),
        (inside & ~padded[1:-1, :-2], 0, 1),
    )
    steps: dict[tuple[int, int], list[int]] = {}
    for direction, (edges, dx, dy) in enumerate(starts):
        for y, x in np.argwhere(edges).tolist():
            steps.setdefault((x + dx, y + dy), []).append(direction)
    loops = []
    for corner in sorted(steps, key=lambda one: (one[1], one[0])):
        while steps[corner]:
            loops.append(_walk(steps, corner))
    return loops


def _walk(steps: dict[tuple[int, int], list[int]], start: tuple[int, int]) -> list[tuple[int, int]]:
    """Follow a border back to its start, use up its steps, and list the corners where it turns."""
    corner, direction, corners = start, steps[start].pop(0), [start]
    while True:
        corner = corner[0] + _STEPS[direction][0], corner[1] + _STEPS[direction][1]
        if corner == start:
            return corners
        turned = (direction + 1) % 4
        following = turned if turned in steps[corner] else steps[corner][0]
        steps[corner].remove(following)
        if following != direction:
            corners.append(corner)
        direction = following
