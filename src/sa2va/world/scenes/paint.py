"""Paint objects and backgrounds consistently at any resolution.

Flow: scene.py -> paint_background (once per clip) -> coverage + paint_object (once per object and frame).
Source: our own; edges are 4x supersampled, textures and backgrounds are smooth functions of position.
Shapes: S side of the image in px, h w box of one object in px; colors are RGB 0..255.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sa2va.world.scenes.shapes import place_outline

Color = tuple[int, int, int]
Box = tuple[slice, slice]  # rows, columns

_SUPERSAMPLING = 4
_FRACTION_BITS = 6  # subpixel bits of OpenCV's fixed-point corners
_EDGE = 0.005  # width of the soft outline, fraction of the side
# Background tints: grayish and of medium brightness, so that black and white objects stand out.
_TINTS: tuple[Color, ...] = (
    (176, 186, 196),
    (188, 182, 170),
    (172, 188, 176),
    (190, 178, 184),
    (178, 176, 192),
    (184, 186, 184),
)


@dataclass(frozen=True)
class Coverage:
    """The box of an object and its alpha coverage of each pixel."""

    box: Box
    alpha: np.ndarray  # float32 (h, w), 0..1

    @property
    def mask(self) -> np.ndarray:
        """Bool (h, w), pixels that the object covers by at least half."""
        return self.alpha >= 0.5


def coverage(shape: str, x: float, y: float, radius: float, angle: float, size: int) -> Coverage | None:
    """Rasterize a shape on an S x S image, or return None if it lies outside.

    Args:
        shape: Name of the outline.
        x: Center from the left, fraction of the side.
        y: Center from the top, fraction of the side.
        radius: Half extent, fraction of the side.
        angle: Clockwise rotation in radians.
        size: S, px.
    """
    reach = 1.15 * radius  # corners of a rotated square exceed the radius
    left, right = max(0, int((x - reach) * size) - 1), min(size, int((x + reach) * size) + 2)
    top, bottom = max(0, int((y - reach) * size) - 1), min(size, int((y + reach) * size) + 2)
    if left >= right or top >= bottom:
        return None
    canvas = np.zeros(((bottom - top) * _SUPERSAMPLING, (right - left) * _SUPERSAMPLING), np.uint8)
    fixed = 1 << _FRACTION_BITS
    corners = [
        np.rint(((points * size - (left, top)) * _SUPERSAMPLING - 0.5) * fixed).astype(np.int32)
        for points in place_outline(shape, x, y, radius, angle)
    ]
    cv2.fillPoly(canvas, corners, 255, shift=_FRACTION_BITS)
    alpha = cv2.resize(canvas, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return Coverage((slice(top, bottom), slice(left, right)), alpha.astype(np.float32) / 255)


def _pattern(texture: str, local_x: np.ndarray, local_y: np.ndarray, period: float, sharpness: float) -> np.ndarray:
    """Compute the weight of the second tone, float32 (h, w) 0..1; `local_x` (w,) and `local_y` (h,) in radii."""
    wave = 2 * np.pi / period
    if texture == "striped":
        field = np.sin(wave * 0.75 * (local_x[None, :] + local_y[:, None]))
    elif texture == "dotted":
        field = (np.cos(wave * 0.78 * local_y)[:, None] * np.cos(wave * 0.78 * local_x)[None, :] - 0.5) * 1.8
    else:
        field = np.sin(wave * 0.55 * local_y)[:, None] * np.sin(wave * 0.55 * local_x)[None, :] * 2
    return np.clip(0.5 + sharpness * field, 0.0, 1.0)


def paint_object(
    frame: np.ndarray,
    covered: Coverage,
    *,
    color: Color,
    tone: Color,
    texture: str,
    center: tuple[float, float],
    radius: float,
    period: float,
) -> None:
    """Paint an object over a frame, in place.

    Args:
        frame: uint8 (S, S, 3).
        covered: Coverage of the object.
        color: Color of the object.
        tone: Second tone of its texture.
        texture: "plain", "striped", "dotted" or "checkered".
        center: (x, y) in fractions of the side.
        radius: Current half extent, fraction of the side.
        period: Period of the texture, in radii.
    """
    rows, columns = covered.box
    size, alpha = frame.shape[0], covered.alpha
    scale = 1.0 / (size * radius)
    local_x = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - center[0] * size) * scale
    local_y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - center[1] * size) * scale
    # Blurred coverage falls from 1 inside to 1/2 on the contour, which gives a soft outline without a second polygon.
    depth = cv2.GaussianBlur(alpha, (0, 0), _EDGE * size)
    inside = np.clip(depth * 2.6 - 1.45, 0.0, 1.0)
    light = (0.5 + 0.5 * inside) * (1.0 - 0.06 * local_y[:, None])  # darker rim, light from above
    pattern = None
    if texture != "plain":
        pattern = _pattern(texture, local_x, local_y, period, 0.3 * period / scale / np.pi)
    under = frame[rows, columns]
    for channel in range(3):  # per channel: numpy is slow along an axis of length 3
        paint: np.ndarray | float = float(color[channel])
        if pattern is not None:
            paint = paint + pattern * (tone[channel] - paint)
        below = under[:, :, channel].astype(np.float32)
        below += (np.minimum(paint * light, 255.0) - below) * alpha
        under[:, :, channel] = below + 0.5


def _field(kind: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """Compute the brightness pattern of a background, float32 (S, S), about -1..1."""
    place = (np.arange(size, dtype=np.float32) + 0.5) / size
    if kind == "plain":
        return np.zeros((size, size), np.float32)
    if kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        return 1.5 * (math.cos(angle) * (place[None, :] - 0.5) + math.sin(angle) * (place[:, None] - 0.5))
    if kind == "grid":
        repeat, offset = int(rng.integers(7, 12)), (rng.uniform(), rng.uniform())
        lines = [np.clip((np.abs(((place * repeat + o) % 1.0) - 0.5) - 0.455) * 30, 0, 1) for o in offset]
        return 0.35 - 1.1 * np.maximum(lines[0][None, :], lines[1][:, None])
    if kind == "waves":
        repeat, phase, bend = rng.uniform(5, 9), rng.uniform(0, 6.28), rng.uniform(0.02, 0.05)
        bent = bend * np.sin(2 * np.pi * rng.uniform(1.5, 3) * place + phase)
        return np.sin(2 * np.pi * repeat * (place[:, None] + bent[None, :])) * 0.6
    cells = 96 if kind == "noise" else 6
    grain = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(grain, (size, size), interpolation=cv2.INTER_CUBIC) * (0.42 if kind == "noise" else 0.6)


def paint_background(kind: str, seed: int, size: int) -> np.ndarray:
    """Paint a muted background, uint8 (S, S, 3), which looks the same at every resolution."""
    rng = np.random.default_rng(seed)
    tint = np.array(_TINTS[rng.integers(len(_TINTS))], np.float32) + rng.uniform(-14, 10)
    warmth = rng.uniform(-5, 5, 3)
    field = _field(kind, rng, size)
    field = field * 100 + 128
    level = np.clip(field, 0, 255, out=field).astype(np.uint8)
    ramp = (np.arange(256, dtype=np.float32)[:, None] - 128) / 100
    palette = np.clip(tint + warmth * np.abs(ramp) + 17 * ramp, 105, 222).astype(np.uint8)  # (256, 3)
    return cv2.applyColorMap(level, palette[:, None, :])
