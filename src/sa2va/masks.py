"""Encode, decode, measure and resize masks, and rasterize polygons and regions.

Flow: masks of a Prediction -> encode_rle -> JSON; RLE and polygons of a dataset -> bool masks -> Sample;
    a user's region -> region_to_mask -> model/processor.py.
Source: the COCO mask format (https://github.com/cocodataset/cocoapi) through pycocotools: column-major run lengths
    that start with the zeros.
Shapes: H, W picture; K points of a polygon or a scribble. Coordinates are px in (x, y) order; the pixel in
    column i covers i..i+1.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

MAX_MASK_PIXELS = 1 << 28  # a few bytes of run lengths can claim any size
STROKE_SHARE = 0.012  # radius of a point or a scribble relative to the picture's longer side

Mask = NDArray[np.bool_]


class RLE(TypedDict):
    """A COCO run-length mask, ready for JSON."""

    size: list[int]  # [H, W]
    counts: str


def encode_rle(mask: ArrayLike) -> RLE:
    """Encode a mask as compressed COCO run lengths.

    Args:
        mask: bool (H, W).

    Returns:
        {"size": [H, W], "counts": str}.

    Raises:
        ValueError: the mask does not have two dimensions.
    """
    array = np.asarray(mask, bool)
    if array.ndim != 2:
        raise ValueError(f"mask: expected shape (H, W), got {array.shape}; encode one object and one frame at a time")
    counts = coco.encode(np.asfortranarray(array, np.uint8))["counts"].decode("ascii")
    return RLE(size=[int(side) for side in array.shape], counts=counts)


def decode_rle(rle: Mapping[str, Any]) -> Mask:
    """Decode COCO run lengths, compressed (str or bytes) or plain (list of int).

    pycocotools is not used here: its decoder returns uninitialized memory if the runs end before the picture does.

    Args:
        rle: {"size": [H, W], "counts": ...}.

    Returns:
        bool (H, W).

    Raises:
        ValueError: the runs cannot be parsed or do not fill the size exactly.
    """
    height, width, runs = _parse_rle(rle)
    values = np.zeros(len(runs), bool)
    values[1::2] = True
    return np.repeat(values, runs).reshape(width, height).T


def area(rle: Mapping[str, Any]) -> int:
    """Count the pixels of a run-length mask without decoding it."""
    return int(_parse_rle(rle)[2][1::2].sum())


def measure_rle(rle: RLE) -> tuple[int, tuple[float, float, float, float]]:
    """Return the area in px and the tight box (x0, y0, x1, y1) px of a checked run-length mask, without decoding it."""
    packed = {**rle, "counts": rle["counts"].encode("ascii")}
    x, y, width, height = (float(number) for number in coco.toBbox(packed))
    return int(coco.area(packed)), (x, y, x + width, y + height)


def bbox(mask: ArrayLike) -> tuple[float, float, float, float] | None:
    """Return the tight box (x0, y0, x1, y1) px of a mask (H, W), x1 and y1 exclusive; None for an empty mask."""
    array = np.asarray(mask, bool)
    columns, rows = np.flatnonzero(array.any(0)), np.flatnonzero(array.any(1))
    if not len(columns):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def polygons_to_mask(polygons: Sequence[ArrayLike], height: int, width: int) -> Mask:
    """Rasterize the union of polygons as COCO does.

    Args:
        polygons: each (K, 2) px or its flat form [x0, y0, x1, y1, ...], K >= 3.
        height, width: size of the mask, px.

    Returns:
        bool (H, W), all False without polygons.

    Raises:
        ValueError: a polygon has fewer than three points, or a coordinate is not finite or far outside.
    """
    if not len(polygons):
        return np.zeros((height, width), bool)
    return decode_rle(polygons_to_rle(polygons, height, width))


def polygons_to_rle(polygons: Sequence[ArrayLike], height: int, width: int) -> RLE:
    """Encode the union of polygons as compressed COCO run lengths, without decoding it.

    Args:
        polygons: as for `polygons_to_mask`, at least one.
        height, width: size of the mask, px.

    Raises:
        ValueError: as `polygons_to_mask`, or the size is too large.
    """
    if not 0 < height * width <= MAX_MASK_PIXELS:
        raise ValueError(f"polygons: a size of {height}x{width} is outside 1..{MAX_MASK_PIXELS} pixels")
    flat = [_flatten_polygon(polygon, number, height, width) for number, polygon in enumerate(polygons)]
    counts = coco.merge(coco.frPyObjects(flat, height, width))["counts"]
    return RLE(size=[height, width], counts=counts.decode("ascii"))


def resize_mask(mask: ArrayLike, height: int, width: int) -> Mask:
    """Resize masks by nearest neighbor: each new pixel takes the old pixel under its center.

    Args:
        mask: bool (..., H, W).
        height, width: the new size, px.

    Returns:
        bool (..., height, width).
    """
    array = np.asarray(mask, bool)
    rows = (2 * np.arange(height) + 1) * array.shape[-2] // (2 * height)
    columns = (2 * np.arange(width) + 1) * array.shape[-1] // (2 * width)
    return array[..., rows[:, None], columns]  # (..., H, W) -> (..., height, width)


def region_to_mask(region: ArrayLike, height: int, width: int) -> Mask:
    """Rasterize a region that a user points at.

    Args:
        region: bool or uint8 mask (H, W), box (x0, y0, x1, y1) px, point (x, y) px or scribble (K, 2) px. Boxes and
            scribbles are clipped to the picture.
        height, width: size of the picture, px.

    Returns:
        bool (H, W), at least one pixel True. A point becomes a disk, a scribble a thick line.

    Raises:
        ValueError: unsupported region, an empty one, or one outside the picture.
    """
    array = _numbers(region)
    if array.dtype == bool or (array.dtype == np.uint8 and array.ndim == 2):
        mask = _checked_mask(array, height, width)
    else:
        mask = _shape_to_mask(array.astype(np.float64), height, width)
    if not mask.any():
        raise ValueError(f"region {_short(region)}: no pixel of the {width}x{height} picture lies in it")
    return mask


def split_regions(regions: Any, height: int, width: int) -> list[Any]:
    """Split a list or an array of regions into single regions.

    Args:
        regions: a list of regions as for `region_to_mask`; an array of boxes (R, 4), points (R, 2), scribbles
            (R, K, 2) or masks (R, H, W); or a single box, point or mask. None = no regions.
        height, width: size of the picture, px.

    Returns:
        R regions for `region_to_mask`.

    Raises:
        ValueError: unsupported type or array shape.
    """
    if regions is None:
        return []
    if not hasattr(regions, "__array__"):
        if not isinstance(regions, Sequence) or isinstance(regions, str | bytes):
            raise ValueError(f"regions {_short(regions)}: expected a list or an array, got {type(regions).__name__}")
        if not regions or not all(isinstance(number, Real) for number in regions):
            return list(regions)
    elif np.asarray(regions).dtype == object:
        return list(regions)
    array = _numbers(regions)
    shape = array.shape
    if array.dtype in (bool, np.uint8) and shape[-2:] == (height, width) and len(shape) in (2, 3):
        return list(array.reshape(-1, height, width))
    if array.dtype != bool and (shape in ((2,), (4,)) or (len(shape) == 2 and shape[1] in (2, 4))):
        return list(array.astype(np.float64).reshape(-1, shape[-1]))
    if array.dtype != bool and len(shape) == 3 and shape[2] == 2:
        return list(array.astype(np.float64))
    raise ValueError(
        f"regions: an array of {array.dtype} {shape}; expected boxes (R, 4), points (R, 2), scribbles (R, K, 2), or "
        f"one or several bool or uint8 masks of the picture's own size ({height}, {width})"
    )


def _checked_mask(array: NDArray[Any], height: int, width: int) -> Mask:
    if array.shape != (height, width):
        raise ValueError(
            f"region: a mask of shape {array.shape} does not fit a picture of height {height} and width {width}; "
            "give the mask at the picture's own size"
        )
    return array.astype(bool)


def _shape_to_mask(points: NDArray[np.float64], height: int, width: int) -> Mask:
    if points.shape == (4,):
        return _box_to_mask(points, height, width)
    if points.shape == (2,):
        x, y = points
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"region {_short(points)}: the point lies outside the {width}x{height} picture")
        return _draw_stroke(points[None], height, width)
    if points.ndim == 2 and points.shape[1] == 2 and len(points):
        inside = (points >= 0).all(1) & (points <= (width, height)).all(1)
        if not inside.any():
            raise ValueError(f"region {_short(points)}: the scribble lies outside the {width}x{height} picture")
        return _draw_stroke(points, height, width)
    raise ValueError(
        f"region of shape {points.shape}: expected a bool mask ({height}, {width}), a box (x0, y0, x1, y1), "
        "a point (x, y) or a scribble (K, 2), in px"
    )


def _box_to_mask(box: NDArray[np.float64], height: int, width: int) -> Mask:
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"region {_short(box)}: a box is x0,y0,x1,y1 in px with x0 < x1 and y0 < y1")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise ValueError(f"region {_short(box)}: the box lies outside the {width}x{height} picture")
    mask = np.zeros((height, width), bool)
    left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    mask[top : int(np.ceil(min(y1, height))), left : int(np.ceil(min(x1, width)))] = True
    return mask


def _draw_stroke(points: NDArray[np.float64], height: int, width: int) -> Mask:
    """Draw points (K, 2) px as a polyline with round ends, a single point as a disk."""
    radius = max(1, round(STROKE_SHARE * max(height, width)))
    # Clip far points, since OpenCV computes in 32-bit integers.
    reach = 4 * max(height, width)
    corners = np.floor(np.clip(points, -reach, reach)).astype(np.int32)
    # The right and bottom borders belong to the last pixel.
    corners = np.where(corners == (width, height), corners - 1, corners)
    canvas = np.zeros((height, width), np.uint8)
    if len(corners) > 1:
        cv2.polylines(canvas, [corners], False, 1, thickness=2 * radius + 1)
    for x, y in corners[[0, -1]].tolist():
        cv2.circle(canvas, (x, y), radius, 1, thickness=-1)
    return canvas.astype(bool)


def _numbers(region: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(region)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"region {_short(region)}: expected numbers in px, as in x0,y0,x1,y1")
    if not np.isfinite(array).all():
        raise ValueError(f"region {_short(region)}: every coordinate has to be a finite number of px")
    return array


def _short(value: ArrayLike) -> str:
    """Format a value for an error, in one short line."""
    text = str(value.tolist() if isinstance(value, np.ndarray) else value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."


def _unpack_runs(letters: bytes) -> NDArray[np.int64]:
    codes = np.frombuffer(letters, np.uint8).astype(np.int64) - 48
    last = codes & 32 == 0
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or not last[-1]:
        raise ValueError("the text is cut off or holds letters outside the format")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    if places.max() > 35:
        raise ValueError("a run is longer than any picture")
    changes = np.add.reduceat((codes & 31) << places, starts)
    changes -= np.where(codes[ends] & 16, np.int64(1) << (places[ends] + 5), 0)  # the top bit is the sign
    runs = changes.copy()
    runs[1::2] = np.cumsum(changes[1::2])
    runs[2::2] = np.cumsum(changes[2::2])
    return runs


def _parse_rle(rle: Mapping[str, Any]) -> tuple[int, int, NDArray[np.int64]]:
    """Return height, width and checked run lengths."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, str):
            counts = counts.encode("ascii")
        runs = _unpack_runs(counts) if isinstance(counts, bytes) else np.asarray(counts, np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f'RLE: expected {{"size": [H, W], "counts": text or list of run lengths}}: {reason}') from None
    if height < 0 or width < 0 or height * width > MAX_MASK_PIXELS:
        raise ValueError(f"RLE: a size of {height}x{width} is outside 0..{MAX_MASK_PIXELS} pixels")
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"RLE: the runs cover {runs.sum()} pixels and the size {height}x{width} has {height * width}")
    return height, width, runs


def _flatten_polygon(polygon: ArrayLike, number: int, height: int, width: int) -> list[float]:
    """Check a polygon and return it as [x0, y0, x1, y1, ...]."""
    flat = np.asarray(polygon, np.float64).ravel()
    if len(flat) < 6 or len(flat) % 2:
        raise ValueError(f"polygon {number}: expected at least three (x, y) points, got {len(flat)} numbers")
    reach = 2 * max(height, width)
    if not (np.abs(flat) <= reach).all():
        raise ValueError(
            f"polygon {number}: its coordinates do not belong to a {width}x{height} picture; give px in x, y order"
        )
    return flat.tolist()
