"""Draw a scanpath so that a stranger can read it: numbered fixations, one color per word, time as size.

Flow: picture, Scanpath (and other samples) -> draw_scanpath -> PNG; -> film_scanpath -> save_film -> MP4 or GIF, in
    which words and fixations appear when they are heard and made.
Shapes: H W picture, N words, K fixations; px of the sheet unless said otherwise, ms.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sa2va.draw.overlay import INK, PAPER, Color, palette
from sa2va.draw.text import base_font, can_write, measure, warn_unwritten, write
from sa2va.files.atomic import whole_file
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.speech import predict_timing
from sa2va.media.writer import VideoWriter
from sa2va.types import Frame

LONGER_SIDE = 960  # px of the picture on the sheet
LEAST_SIZE = (430, 240)  # px, width and height that the picture has at least, with bars beside it: words need room
LEAST_LETTERS = 8  # px
BAR: Color = (226, 228, 232)
SMOOTH = 2  # everything is drawn so many times larger
QUIET, SILENCE = (112, 117, 128), (196, 199, 206)  # packs without a word; words that nobody has heard yet
FADED = 0.34  # of the picture's colors, and of its contrast, given up so that fixations stand out
RADIUS, USUAL = 0.026, 250.0  # of a fixation of 250 ms, in longer sides; its area grows with its duration
RADII = (0.6, 1.9)  # least and most of that
LEGEND, LEGEND_WIDTH = (100.0, 250.0, 500.0), 0.34  # ms, shown in their true sizes; of the longer side
FPS = 15
LINGER = 1600.0  # ms that the last picture of a film stays
STARTS, ENDS = "start", "end"  # what the packs without a word are called
SUFFIXES = (".mp4", ".mov", ".mkv", ".gif")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """A picture with room below for its words."""

    frame: Frame  # (H, W, 3)
    scanpath: Scanpath  # px of the frame
    others: Sequence[Scanpath] = ()  # further samples, shown as small dots
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
            raise ValueError(f"{len(self.onsets)} onsets for {len(self.scanpath.words)} words, expected as many")

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
        """Width and height of the part above the words: the picture, between bars where it is very flat or narrow."""
        return max(self.shown[0], LEAST_SIZE[0]), max(self.shown[1], LEAST_SIZE[1])

    @cached_property
    def corner(self) -> tuple[int, int]:
        """px of the sheet left of the picture and above it."""
        return (self.size[0] - self.shown[0]) // 2, (self.size[1] - self.shown[1]) // 2

    @cached_property
    def moments(self) -> list[float]:
        """(N + 2,) ms when each pack's word is heard; the last one when its first fixation begins."""
        words = self.scanpath.words
        heard = list(self.onsets) if self.onsets is not None else list(predict_timing(words).onsets)
        after = [fixation.start for fixation in self.scanpath.packs[-1].fixations]
        return [-math.inf, *heard, after[0] if after else math.inf]

    @cached_property
    def colors(self) -> list[Color]:
        """(N + 2,)."""
        words = [(int(red), int(green), int(blue)) for red, green, blue in palette(len(self.scanpath.words))]
        return [QUIET, *words, INK]

    @cached_property
    def chips(self) -> "list[Chip]":
        """(N + 2,) words below the picture; "word 2" where no font of this machine has the letters of the second."""
        shown = {f"word {number}": word for number, word in enumerate(self.scanpath.words, 1)}
        unwritten = {short: word for short, word in shown.items() if not can_write(word)}
        warn_unwritten(unwritten, stacklevel=1)
        words = [short if short in unwritten else word for short, word in shown.items()]
        return lay_chips([STARTS, *words, ENDS], self.size[0] - self.legend_width)

    @property
    def legend_width(self) -> float:
        """px at the right of the words; 0 where the picture is too narrow for a legend."""
        return LEGEND_WIDTH * LONGER_SIDE if self.size[0] > 2 * LEGEND_WIDTH * LONGER_SIDE else 0.0

    @cached_property
    def background(self) -> Image.Image:
        """The picture, a little faded, on its sheet; SMOOTH times as large."""
        gray = self.frame.mean(2, keepdims=True)
        calm = (1 - FADED) * (self.frame + FADED * (gray - self.frame)) + FADED * 236
        width, height = self.size
        picture = Image.fromarray(np.rint(calm).astype(np.uint8)).resize(
            (SMOOTH * self.shown[0], SMOOTH * self.shown[1]), Image.Resampling.BICUBIC
        )
        bottom = self.chips[-1].bottom if self.chips else 0
        sheet = Image.new("RGB", (SMOOTH * width, SMOOTH * (height + bottom)), PAPER)
        sheet.paste(BAR, (0, 0, SMOOTH * width, SMOOTH * height))
        sheet.paste(picture, (SMOOTH * self.corner[0], SMOOTH * self.corner[1]))
        return sheet


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A word below the picture: its box, px below the picture's lower edge."""

    text: str
    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> int:
        """px that the sheet needs down to here, numbers and legend included."""
        return round(self.top + 2.9 * self.height)


def draw_scanpath(sheet: Sheet, now: float = math.inf) -> Frame:
    """Draw what has happened until a moment.

    Args:
        sheet: what to draw.
        now: ms; everything by default.

    Returns:
        uint8 (height, width, 3): the picture, and below it the words with the numbers of their fixations.
    """
    canvas = sheet.background.copy()
    pen = ImageDraw.Draw(canvas, "RGBA")
    if sheet.target is not None:
        _draw_target(pen, sheet)
    if now == math.inf:
        _draw_others(pen, sheet)
    made = [
        (pack, fixation)
        for pack, row in enumerate(sheet.scanpath.packs)
        for fixation in row.fixations
        if fixation.start <= now
    ]
    _draw_path(pen, sheet, made)
    _draw_discs(pen, discs := _discs(sheet, made, now))
    _draw_numbers(pen, discs)
    _draw_words(pen, sheet, made, now)
    return np.array(canvas.resize((canvas.width // SMOOTH, canvas.height // SMOOTH), Image.Resampling.BOX))


def film_scanpath(sheet: Sheet, fps: float = FPS) -> Generator[Frame]:
    """Draw it as it happens, in real time: words appear when they are heard, fixations while they last."""
    fixations = sheet.scanpath.fixations
    heard = [moment for moment in sheet.moments if math.isfinite(moment)]
    begin = min([fixation.start for fixation in fixations] + heard, default=0.0)
    end = max([fixation.start + fixation.duration for fixation in fixations] + heard, default=0.0)
    for step in range(math.ceil((end - begin) * fps / 1000) + 1):
        yield draw_scanpath(sheet, begin + step * 1000 / fps)
    yield from [draw_scanpath(sheet)] * round(LINGER * fps / 1000)


def save_film(path: Path, frames: Iterable[Frame], fps: float = FPS) -> None:
    """Write a film.

    Args:
        path: .mp4, .mov, .mkv or .gif.
        frames: at least one, uint8 (height, width, 3).
        fps: frames a second.

    Raises:
        ValueError: another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: films are written as {', '.join(SUFFIXES)}")
    if path.suffix.lower() != ".gif":
        with VideoWriter(path, fps) as video:
            for frame in frames:
                video.write(frame)
        return
    first, *rest = [Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    # A GIF counts in hundredths of a second: round each frame's end, so that the film as a whole keeps its time.
    durations = np.diff([10 * round(100 * number / fps) for number in range(len(rest) + 2)]).tolist()  # ms
    with whole_file(path) as part:
        first.save(part, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def lay_chips(texts: Sequence[str], width: float) -> list[Chip]:
    """Put words side by side, from line to line."""
    height = 0.031 * LONGER_SIDE
    font, gap = _font(0.6 * height), 0.34 * height
    chips, left, top = [], gap, gap
    for text in texts:
        shown = text if len(text) <= 24 else text[:23] + "\u2026"
        wide = max(measure(shown, round(font.size)) + 1.1 * height, 1.9 * height)
        if left + wide > width - gap and left > gap:
            left, top = gap, top + 2.1 * height
        chips.append(Chip(text=shown, left=left, top=top, width=wide, height=height))
        left += wide + gap
    return chips


def _draw_target(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    assert sheet.target is not None
    left, top = sheet.corner
    shift = (left, top, left, top)
    x0, y0, x1, y1 = (SMOOTH * (value * sheet.scale + bar) for value, bar in zip(sheet.target, shift, strict=True))
    for thickness, color in ((4, (255, 255, 255, 220)), (2, (*INK, 255))):
        pen.rounded_rectangle((x0, y0, x1, y1), 8 * SMOOTH, outline=color, width=thickness * SMOOTH)


def _draw_others(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    radius = 0.0042 * LONGER_SIDE * SMOOTH
    for path in sheet.others:
        for pack, row in enumerate(path.packs):
            for fixation in row.fixations:
                x, y = _place(sheet, fixation)
                color = (*sheet.colors[min(pack, len(sheet.colors) - 1)], 150)
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _draw_path(pen: ImageDraw.ImageDraw, sheet: Sheet, made: Sequence[tuple[int, Fixation]]) -> None:
    places = [_place(sheet, fixation) for _, fixation in made]
    for thickness, color in ((6, (255, 255, 255, 235)), (3, None)):
        for (pack, _), start, end in zip(made[1:], places, places[1:], strict=False):
            line = (*sheet.colors[pack], 255) if color is None else color
            pen.line((*start, *end), fill=line, width=thickness * SMOOTH)


@dataclass(frozen=True, kw_only=True)
class _Disc:
    """A fixation on the sheet, SMOOTH times as large."""

    number: int
    x: float
    y: float
    radius: float
    color: Color

    def reaches(self, x: float, y: float, margin: float = 0.0) -> bool:
        return math.hypot(x - self.x, y - self.y) < self.radius + margin


def _discs(sheet: Sheet, made: Sequence[tuple[int, Fixation]], now: float) -> list[_Disc]:
    discs = []
    for number, (pack, fixation) in enumerate(made, 1):
        x, y = _place(sheet, fixation)
        radius = SMOOTH * radius_of(min(now - fixation.start, fixation.duration))
        discs.append(_Disc(number=number, x=x, y=y, radius=radius, color=sheet.colors[pack]))
    return discs


def _draw_discs(pen: ImageDraw.ImageDraw, discs: Sequence[_Disc]) -> None:
    """Small ones over large ones, so that every one is seen."""
    rim = 0.0028 * LONGER_SIDE * SMOOTH
    for disc in sorted(discs, key=lambda disc: -disc.radius):
        _fill_circle(pen, disc.x, disc.y, disc.radius + rim, (255, 255, 255, 255))
        _fill_circle(pen, disc.x, disc.y, disc.radius, (*disc.color, 235))


def _draw_numbers(pen: ImageDraw.ImageDraw, discs: Sequence[_Disc]) -> None:
    """Write each number into its disc, or beside it on a badge where a smaller disc lies over the middle."""
    least, rim = 0.0135 * LONGER_SIDE * SMOOTH, 0.002 * LONGER_SIDE * SMOOTH
    taken: list[tuple[float, float]] = []
    for disc in sorted(discs, key=lambda disc: disc.radius):
        others = [other for other in discs if other is not disc]
        smaller = [other for other in others if other.radius <= disc.radius]
        size = max(1.05 * disc.radius, least)
        covered = any(other.reaches(disc.x, disc.y, 0.45 * size) for other in smaller)
        if not covered:
            pen.text((disc.x, disc.y), str(disc.number), _ink_on(disc.color), _font(size), "mm")
            taken.append((disc.x, disc.y))
            continue
        spots = [
            (disc.x + disc.radius * math.cos(turn * math.pi / 6), disc.y + disc.radius * math.sin(turn * math.pi / 6))
            for turn in range(12)
        ]
        crowd = [(other.x, other.y) for other in others] + taken
        x, y = max(spots, key=lambda spot: min(math.dist(spot, place) for place in crowd))
        _fill_circle(pen, x, y, 0.8 * least + rim, (255, 255, 255, 255))
        _fill_circle(pen, x, y, 0.8 * least, (*disc.color, 255))
        pen.text((x, y), str(disc.number), _ink_on(disc.color), _font(0.95 * least), "mm")
        taken.append((x, y))


def _fill_circle(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int, int]) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def radius_of(duration: float) -> float:
    """Radius of a fixation on the sheet, px: its area says how long it lasted."""
    share = math.sqrt(max(duration, 0.0) / USUAL)
    return RADIUS * LONGER_SIDE * min(max(share, RADII[0]), RADII[1])


def _draw_words(pen: ImageDraw.ImageDraw, sheet: Sheet, made: Sequence[tuple[int, Fixation]], now: float) -> None:
    below = sheet.size[1]
    if sheet.chips:  # discs end where the words begin
        pen.rectangle(
            (0, SMOOTH * below, SMOOTH * sheet.size[0], SMOOTH * (below + sheet.chips[-1].bottom)), fill=PAPER
        )
    numbers: dict[int, list[str]] = {}
    for number, (pack, _) in enumerate(made, 1):
        numbers.setdefault(pack, []).append(str(number))
    for pack, chip in enumerate(sheet.chips):
        heard = sheet.moments[pack] <= now
        color = sheet.colors[pack] if heard else SILENCE
        box = [chip.left, below + chip.top, chip.left + chip.width, below + chip.top + chip.height]
        corners = [SMOOTH * value for value in box]
        wordless = pack in (0, len(sheet.chips) - 1)
        fill = None if wordless or not heard else (*color, 255)
        pen.rounded_rectangle(corners, chip.height * SMOOTH / 2, fill=fill, outline=(*color, 255), width=2 * SMOOTH)
        middle = SMOOTH * (chip.left + chip.width / 2)
        ink = color if wordless or not heard else _ink_on(color)
        if heard or wordless:
            font = _font(0.6 * chip.height * SMOOTH)
            place = middle, SMOOTH * (below + chip.top + chip.height / 2)
            write(pen, place, chip.text, ink, round(font.size), "mm")
        row = numbers.get(pack, ["-"] if heard and now == math.inf else [])
        text, small = fit_numbers(row, SMOOTH * chip.width * 1.25, 0.52 * chip.height * SMOOTH)
        pen.text((middle, SMOOTH * (below + chip.top + 1.45 * chip.height)), text, QUIET, small, "mm")
    _draw_legend(pen, sheet)


def fit_numbers(numbers: Sequence[str], width: float, size: float) -> tuple[str, ImageFont.FreeTypeFont]:
    """Write the numbers of one word's fixations, smaller where they need it; "7 ... 26" where even that is too wide.

    Args:
        numbers: one after the other, of fixations that follow each other.
        width: px that there are.
        size: px of the letters, where there is room.

    Returns:
        The text, and the letters to write it with.
    """
    text, font = " ".join(numbers), _font(size)
    while font.getlength(text) > width:
        if font.size > LEAST_LETTERS * SMOOTH:
            font = _font(font.size - 1)
        elif len(numbers) > 2:
            numbers = [numbers[0], numbers[-1]]
            text, font = " \u2026 ".join(numbers), _font(size)
        else:
            break
    return text, font


def _draw_legend(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    """Say what numbers, colors and sizes mean."""
    height = sheet.chips[-1].height
    bottom = SMOOTH * (sheet.size[1] + sheet.chips[-1].bottom)
    font = _font(0.46 * height * SMOOTH)
    words = "numbers: order of the fixations    color: the word just heard"
    pen.text((0.34 * height * SMOOTH, bottom - 0.55 * height * SMOOTH), words, QUIET, font, "lm")
    if not sheet.legend_width:
        return
    x, middle = SMOOTH * (sheet.size[0] - sheet.legend_width), bottom - 1.45 * height * SMOOTH
    for duration in LEGEND:
        radius = radius_of(duration) * SMOOTH
        x += radius
        _fill_circle(pen, x, middle, radius, (*SILENCE, 255))
        label = f"{duration:g} ms" if duration == LEGEND[-1] else f"{duration:g}"
        pen.text((x, middle), label, INK, font, "mm")
        x += radius + 0.5 * height * SMOOTH
    pen.text((x, middle), "looked at", QUIET, font, "lm")


def _place(sheet: Sheet, fixation: Fixation) -> tuple[float, float]:
    """Where a fixation is drawn: one beside the picture at its edge."""
    (width, height), (left, top) = sheet.shown, sheet.corner
    x, y = fixation.x * sheet.scale, fixation.y * sheet.scale
    return SMOOTH * (left + min(max(x, 0.0), width - 1.0)), SMOOTH * (top + min(max(y, 0.0), height - 1.0))


def _ink_on(color: Color) -> Color:
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)


def _font(size: float) -> ImageFont.FreeTypeFont:
    return base_font(max(1, round(size)))
