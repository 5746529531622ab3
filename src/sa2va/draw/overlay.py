"""Draw masks and labels over pictures, and arrange pictures in contact sheets.

Flow: frames and masks of a Prediction -> overlay -> media/ (PNG, MP4); several overlays -> contact_sheet.
Source: the palette was found by farthest-point search in OKLab (https://bottosson.github.io/posts/oklab/), for normal
    vision and for simulated protanopia and deuteranopia (Machado et al., 2009) at once.
Shapes: N objects, H W picture, 3 colors in RGB order; boxes are (left, top, right, bottom) px.
"""

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from sa2va.draw.text import base_font, measure, replace_unwritable, write
from sa2va.masks import bbox
from sa2va.types import Frame

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]

COLORS = "0089DC FF9843 8D053C 22F8CC 570597 FF3781 B0B3FF 597F00 F4EB11 0F26FF".split()
GOLDEN = 0.618034  # hue step; multiples of the golden ratio never repeat a hue
INK, PAPER = (28, 30, 36), (250, 250, 248)
TRUTH, FOUND = 7, 1  # palette indices of a true and a predicted mask: green, orange
LARGEST_SHEET = 4000  # px, longer side of a contact sheet; larger ones are scaled down


@lru_cache(maxsize=256)
def color_of(index: int) -> Color:
    """Return the color of an object.

    The first ten are distinguishable with red-green color blindness. Later hues are a golden ratio apart.
    """
    if index < len(COLORS):
        red, green, blue = bytes.fromhex(COLORS[index])
        return red, green, blue
    turn = index - len(COLORS)
    saturation, value = ((0.85, 0.95), (0.45, 0.95), (0.8, 0.6))[turn % 3]
    red, green, blue = colorsys.hsv_to_rgb(turn * GOLDEN % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(
    frame: Frame,
    masks: ArrayLike,
    labels: Sequence[str] | None = None,
    alpha: float = 0.5,
    *,
    colors: Sequence[int] | None = None,
) -> Frame:
    """Draw masks over a picture, each with a tint, a smooth outline and an optional label.

    Args:
        frame: uint8 (H, W, 3); not modified.
        masks: bool (N, H, W). Smaller objects are drawn over larger ones; empty masks are skipped.
        labels: N short texts; an empty one draws no label. A label that no installed font can write is replaced by the
            number of its object, with a warning that lists the text.
        alpha: opacity of the tint, 0..1.
        colors: N palette indices, such as the ids of tracked objects; None = 0..N-1.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the sizes of masks, labels, colors and frame do not match.
    """
    stack = np.asarray(masks, bool)
    height, width = frame.shape[:2]
    if stack.ndim != 3 or (len(stack) and stack.shape[1:] != (height, width)):
        raise ValueError(f"overlay: expected masks of shape (N, {height}, {width}), got {stack.shape}")
    for name, values in (("labels", labels), ("colors", colors)):
        if values is not None and len(values) != len(stack):
            raise ValueError(f"overlay: {len(values)} {name} for {len(stack)} masks")
    picture = frame.copy()
    numbers = colors if colors is not None else range(len(stack))
    paints = [color_of(index) for index in numbers]
    boxes = {index: box for index, mask in enumerate(stack) if (box := _pixel_box(mask)) is not None}
    areas = stack.sum((1, 2))
    for index in sorted(boxes, key=lambda index: -areas[index]):
        _paint(picture, stack[index], boxes[index], paints[index], alpha)
    if labels is None:
        return picture
    labels = replace_unwritable(labels, [str(index + 1) for index in numbers], stacklevel=2)
    chips = [(labels[index], _anchors(stack[index], boxes[index]), paints[index]) for index in boxes if labels[index]]
    return _draw_chips(picture, chips)


def draw_answer(frame: Frame, truth: NDArray[np.bool_], found: NDArray[np.bool_], alpha: float = 0.4) -> Frame:
    """Draw a true mask (green) and the predicted one (orange) over a picture.

    Args:
        frame: uint8 (H, W, 3); not modified.
        truth: bool (H, W).
        found: bool (H, W).
        alpha: opacity of the tint, 0..1.

    Returns:
        uint8 (H, W, 3).
    """
    return overlay(frame, np.stack([truth, found]), colors=[TRUTH, FOUND], alpha=alpha)


def contact_sheet(frames: Sequence[Frame], columns: int, captions: Sequence[str]) -> Frame:
    """Arrange pictures in a grid on light paper.

    Args:
        frames: at least one uint8 (H, W, 3). Pictures of another size are fitted into the cell of the first one.
        columns: pictures per row.
        captions: one text per picture, written below it and wrapped to its width. A caption that no installed font can
            write is replaced by the number of its picture.

    Returns:
        uint8 (height, width, 3), no side longer than LARGEST_SHEET.

    Raises:
        ValueError: there are no frames, or not one caption per frame.
    """
    if not len(frames):
        raise ValueError("contact_sheet: expected at least one frame, got none")
    if len(captions) != len(frames):
        raise ValueError(f"contact_sheet: {len(captions)} captions for {len(frames)} frames")
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = math.ceil(len(frames) / columns)
    scale = min(max(1.0, 240 / width), 0.95 * LARGEST_SHEET / max(columns * width, rows * height))
    cell_width, cell_height = max(1, round(width * scale)), max(1, round(height * scale))
    gap = max(6, round(0.03 * cell_width))
    font = base_font(max(11, round(0.04 * cell_width)))
    captions = replace_unwritable(captions, [str(index + 1) for index in range(len(captions))], stacklevel=2)
    texts = [_wrap(text, font, cell_width) for text in captions]
    line = sum(font.getmetrics())
    caption_height = max(map(len, texts)) * line + gap // 2
    step_x, step_y = cell_width + gap, cell_height + caption_height + gap
    sheet = Image.new("RGB", (columns * step_x + gap, rows * step_y + gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, frame in enumerate(frames):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        cell = _fit(frame, cell_height, cell_width)
        sheet.paste(cell, (left + (cell_width - cell.width) // 2, top + (cell_height - cell.height) // 2))
        for number, text in enumerate(texts[index]):
            write(pen, (left, top + cell_height + gap // 3 + number * line), text, INK, round(font.size))
    sheet.thumbnail((LARGEST_SHEET, LARGEST_SHEET))
    return np.array(sheet)


def _line_width(height: int, width: int) -> float:
    """Return the width of an outline, px: thin on a thumbnail, visible on a poster."""
    return max(1.2, 0.0032 * math.sqrt(height * width))


def _pixel_box(mask: NDArray[np.bool_]) -> Box | None:
    box = bbox(mask)
    return None if box is None else (int(box[0]), int(box[1]), int(box[2]), int(box[3]))


def _paint(picture: Frame, mask: NDArray[np.bool_], box: Box, color: Color, alpha: float) -> None:
    """Tint a mask and draw its outline, in place.

    Anti-aliasing: the coverage of a pixel is the blurred signed distance of its center to the edge, clipped.
    """
    height, width = mask.shape
    thickness = _line_width(height, width)
    margin = math.ceil(2 * thickness) + 3
    left, top, right, bottom = box
    window = np.s_[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    depth = _depth(mask[window], blur=0.45 * thickness)  # px inside the mask; negative outside
    tint = alpha * np.clip(depth + 0.5, 0, 1)
    halo = 0.55 * np.clip(thickness + 0.5 - np.abs(depth + 0.35 * thickness), 0, 1)
    line = np.clip(thickness / 2 + 0.5 - np.abs(depth), 0, 1)
    out = picture[window].astype(np.float32)  # (h, w, 3)
    for share, paint in ((tint, color), (halo, (255, 255, 255)), (line, color)):
        out += share[..., None] * (np.array(paint, np.float32) - out)
    picture[window] = np.rint(out).astype(np.uint8)


def _depth(mask: NDArray[np.bool_], blur: float) -> NDArray[np.float32]:
    """Return the blurred signed distance (h, w) px to the edge of a mask, positive inside."""
    inside = mask.astype(np.uint8)
    far = float(sum(mask.shape))  # OpenCV returns a huge number if there is no edge
    within = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), far)
    beyond = np.minimum(cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), far)
    depth = np.where(mask, within - 0.5, 0.5 - beyond).astype(np.float32)
    return cv2.GaussianBlur(depth, (0, 0), max(blur, 0.6))


class _Anchors(NamedTuple):
    """Points (x, y) px of a mask at which a label can be placed."""

    top: tuple[int, int]
    deepest: tuple[int, int]  # the pixel farthest from the edge
    bottom: tuple[int, int]
    right: tuple[int, int]
    left: tuple[int, int]


def _anchors(mask: NDArray[np.bool_], box: Box) -> _Anchors:
    left, top, right, bottom = box
    inside = np.pad(mask[top:bottom, left:right], 1).astype(np.uint8)
    deepest = np.argmax(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    row, column = np.unravel_index(deepest, inside.shape)

    def middle(line: NDArray[np.bool_]) -> int:
        return int(np.flatnonzero(line).mean())

    return _Anchors(
        top=(left + middle(mask[top, left:right]), top),
        deepest=(left + int(column) - 1, top + int(row) - 1),
        bottom=(left + middle(mask[bottom - 1, left:right]), bottom),
        right=(right, top + middle(mask[top:bottom, right - 1])),
        left=(left, top + middle(mask[top:bottom, left])),
    )


def _draw_chips(picture: Frame, chips: Sequence[tuple[str, _Anchors, Color]]) -> Frame:
    """Draw each label on a rounded chip near its mask, inside the picture and apart from other chips."""
    height, width = picture.shape[:2]
    font = base_font(max(9, round(0.026 * math.sqrt(height * width))))
    ascent, descent = font.getmetrics()
    pad_x, pad_y = round(0.45 * font.size), round(0.08 * font.size)
    longest = max(0.5 * width, min(width, 240)) - 2 * pad_x
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    taken: list[Box] = []
    for label, anchors, color in chips:
        text = _shorten(" ".join(label.split()), font, longest)
        if not text:
            continue
        size = math.ceil(measure(text, round(font.size))) + 2 * pad_x, ascent + descent + 2 * pad_y
        chip = _place(size, anchors, (width, height), taken)
        taken.append(chip)
        background, ink = _readable(color)
        image.paste(background, chip[:2], _rounded(size))
        write(pen, (chip[0] + pad_x, chip[1] + pad_y), text, ink, round(font.size))
    return np.array(image)


def _place(size: tuple[int, int], anchors: _Anchors, picture: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Choose the box of a chip: preferably above its mask, else on it, below or beside, away from other chips."""
    width, height = size
    gap = max(1, height // 5)
    (top_x, top), (x, y), (bottom_x, bottom), (right, right_y), (left, left_y) = anchors
    spots = [
        (top_x - width // 2, top - height - gap),
        (x - width // 2, y - height // 2),
        (bottom_x - width // 2, bottom + gap),
        (right + gap, right_y - height // 2),
        (left - gap - width, left_y - height // 2),
    ]
    best, least = None, math.inf
    for order, (x, y) in enumerate(spots):
        inside_x = min(max(x, 0), max(picture[0] - width, 0))
        inside_y = min(max(y, 0), max(picture[1] - height, 0))
        chip = (inside_x, inside_y, inside_x + width, inside_y + height)
        # Shifting costs little, overlap costs much, and earlier spots win ties.
        moved = (abs(x - inside_x) + abs(y - inside_y)) / (width + height)
        cost = 10 * sum(_overlap(chip, other) for other in taken) / (width * height) + moved + 0.01 * order
        if cost < least:
            best, least = chip, cost
    assert best is not None
    return best


def _overlap(a: Box, b: Box) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _readable(color: Color) -> tuple[Color, Color]:
    """Choose chip and text colors with a contrast of at least 4.5 (WCAG 2.2, level AA)."""
    if 1.05 / (_luminance(color) + 0.05) < 3:
        return color, INK
    while 1.05 / (_luminance(color) + 0.05) < 4.5:
        color = int(color[0] * 0.96), int(color[1] * 0.96), int(color[2] * 0.96)
    return color, (255, 255, 255)


def _luminance(color: Color) -> float:
    """Return the relative luminance of an sRGB color, 0..1."""
    linear = [v / 12.92 if (v := part / 255) <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for part in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@lru_cache(maxsize=256)
def _rounded(size: tuple[int, int]) -> Image.Image:
    """Return the coverage of a rounded rectangle, supersampled four times."""
    width, height = size
    large = Image.new("L", (4 * width, 4 * height))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), radius=1.2 * height, fill=255)
    return large.resize(size, Image.Resampling.BOX)


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Truncate a text to a width in px with an ellipsis; return "" if not even one letter fits."""
    size = round(font.size)
    if measure(text, size) <= width:
        return text
    for end in range(len(text) - 1, 0, -1):
        if measure(short := text[:end].rstrip() + "...", size) <= width:
            return short
    return ""


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text into lines of at most `width` px."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and measure(longer, round(font.size)) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_shorten(line, font, width) for line in lines]


def _fit(frame: Frame, height: int, width: int) -> Image.Image:
    """Fit a picture into a cell, keeping its aspect ratio; enlarge a small one without blur."""
    scale = min(height / frame.shape[0], width / frame.shape[1])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    kind = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return Image.fromarray(np.ascontiguousarray(frame)).resize(size, kind)
