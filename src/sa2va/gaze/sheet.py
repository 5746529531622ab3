"""Lay out a scanpath figure: the picture, its fixations, and the words below it.

Flow: frame, Scanpath (and further samples) -> Sheet -> render.py.
Shapes: H W picture, N words; px of the sheet unless said otherwise, ms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageFont

from sa2va.draw.overlay import INK, PAPER, Color, color_of
from sa2va.draw.text import base_font, measure, replace_unwritable
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.speech import predict_timing
from sa2va.types import Frame

LONGER_SIDE = 960  # px of the picture on the sheet
LEAST_SIZE = (430, 240)  # px, minimum width and height above the words; bars pad a smaller picture
BAR: Color = (226, 228, 232)
SUPERSAMPLING = 2  # the sheet is drawn this many times larger
QUIET: Color = (112, 117, 128)  # fixations before and after the words
FADED = 0.34  # how much color and contrast the picture loses, so that fixations stand out
RADIUS, USUAL = 0.026, 250.0  # radius of a fixation of USUAL ms, as a share of the longer side
RADII = (0.6, 1.9)  # least and largest radius, in units of RADIUS
LEGEND_WIDTH = 0.34  # of the longer side
MAX_LETTERS = 24  # of a word; a longer one is cut
STARTS, ENDS = "start", "end"  # labels of the fixations before and after the words


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A word below the picture: its box, px from the lower edge of the picture."""

    text: str
    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> int:
        """Height of the area below the picture, px, if this is the last label."""
        return round(self.top + 2.9 * self.height)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """A picture with its scanpath, and room for the words below."""

    frame: Frame  # (H, W, 3)
    scanpath: Scanpath  # px of the frame
    others: Sequence[Scanpath] = ()  # further samples, drawn as small dots
    target: Box | None = None  # px of the frame
    onsets: Sequence[float] | None = None  # (N,) ms; None predicts them from the words

    def __post_init__(self) -> None:
        height, width = self.frame.shape[:2]
        for path in (self.scanpath, *self.others):
            if (path.width, path.height) != (width, height):
                raise ValueError(
                    f"scanpath over {path.width} x {path.height} px, expected the picture's {width} x {height}"
                )
        if self.onsets is not None and len(self.onsets) != len(self.scanpath.words):
            raise ValueError(f"{len(self.onsets)} onsets for {len(self.scanpath.words)} words, expected one per word")

    @cached_property
    def scale(self) -> float:
        """px of the sheet per px of the frame."""
        return LONGER_SIDE / max(self.frame.shape[:2])

    @cached_property
    def shown(self) -> tuple[int, int]:
        """Width and height of the picture on the sheet."""
        height, width = self.frame.shape[:2]
        return max(1, round(width * self.scale)), max(1, round(height * self.scale))

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet above the words: the picture and the bars beside it."""
        return max(self.shown[0], LEAST_SIZE[0]), max(self.shown[1], LEAST_SIZE[1])

    @cached_property
    def corner(self) -> tuple[int, int]:
        """Upper left corner of the picture on the sheet, (x, y)."""
        return (self.size[0] - self.shown[0]) // 2, (self.size[1] - self.shown[1]) // 2

    @cached_property
    def moments(self) -> list[float]:
        """(N + 2,) ms when each label appears: words at their onsets, "end" at the first fixation after them."""
        words = self.scanpath.words
        heard = list(self.onsets) if self.onsets is not None else list(predict_timing(words).onsets)
        after = [fixation.start for fixation in self.scanpath.packs[-1].fixations]
        return [-math.inf, *heard, after[0] if after else math.inf]

    @cached_property
    def colors(self) -> list[Color]:
        """(N + 2,) color of each label and its fixations."""
        return [QUIET, *map(color_of, range(len(self.scanpath.words))), INK]

    @cached_property
    def chips(self) -> list[Chip]:
        """(N + 2,) labels; a word without letters in any installed font becomes "word 2"."""
        numbers = [f"word {number}" for number in range(1, len(self.scanpath.words) + 1)]
        words = replace_unwritable(self.scanpath.words, numbers, stacklevel=1)
        return lay_chips([STARTS, *words, ENDS], self.size[0] - self.legend_width)

    @property
    def legend_width(self) -> float:
        """Width of the legend at the right of the words, px; 0 if the picture is too narrow for it."""
        return LEGEND_WIDTH * LONGER_SIDE if self.size[0] > 2 * LEGEND_WIDTH * LONGER_SIDE else 0.0

    @cached_property
    def background(self) -> Image.Image:
        """The faded picture on the empty sheet, supersampled."""
        gray = self.frame.mean(2, keepdims=True)
        calm = (1 - FADED) * (self.frame + FADED * (gray - self.frame)) + FADED * 236
        width, height = self.size
        picture = Image.fromarray(np.rint(calm).astype(np.uint8)).resize(
            (SUPERSAMPLING * self.shown[0], SUPERSAMPLING * self.shown[1]), Image.Resampling.BICUBIC
        )
        bottom = self.chips[-1].bottom
        sheet = Image.new("RGB", (SUPERSAMPLING * width, SUPERSAMPLING * (height + bottom)), PAPER)
        sheet.paste(BAR, (0, 0, SUPERSAMPLING * width, SUPERSAMPLING * height))
        sheet.paste(picture, (SUPERSAMPLING * self.corner[0], SUPERSAMPLING * self.corner[1]))
        return sheet

    def place(self, fixation: Fixation) -> tuple[float, float]:
        """Return the supersampled (x, y) of a fixation, clipped to the picture."""
        (width, height), (left, top) = self.shown, self.corner
        x, y = fixation.x * self.scale, fixation.y * self.scale
        x, y = left + min(max(x, 0.0), width - 1.0), top + min(max(y, 0.0), height - 1.0)
        return SUPERSAMPLING * x, SUPERSAMPLING * y


def lay_chips(texts: Sequence[str], width: float) -> list[Chip]:
    """Lay labels out in lines of at most `width` px."""
    height = 0.031 * LONGER_SIDE
    font, gap = font_of(0.6 * height), 0.34 * height
    chips, left, top = [], gap, gap
    for text in texts:
        shown = text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 1] + "\u2026"
        wide = max(measure(shown, round(font.size)) + 1.1 * height, 1.9 * height)
        if left + wide > width - gap and left > gap:
            left, top = gap, top + 2.1 * height
        chips.append(Chip(text=shown, left=left, top=top, width=wide, height=height))
        left += wide + gap
    return chips


def radius_of(duration: float) -> float:
    """Return the radius of a fixation of `duration` ms, px; its area is proportional to its duration."""
    share = math.sqrt(max(duration, 0.0) / USUAL)
    return RADIUS * LONGER_SIDE * min(max(share, RADII[0]), RADII[1])


def font_of(size: float) -> ImageFont.FreeTypeFont:
    """Return the base font at the nearest whole size, px."""
    return base_font(max(1, round(size)))
