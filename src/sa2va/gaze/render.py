"""Draw scanpaths as figures and films: numbered fixations, one color per word, area for duration.

Flow: Sheet -> draw_scanpath -> PNG; -> film_scanpath -> save_film -> MP4 or GIF, in which words and fixations appear
    in real time.
Shapes: px of the sheet, supersampled inside this file; ms.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sa2va.draw.overlay import INK, PAPER, Color
from sa2va.draw.text import write
from sa2va.files.atomic import whole_file
from sa2va.gaze.scanpath import Fixation
from sa2va.gaze.sheet import LEGEND_WIDTH, LONGER_SIDE, QUIET, SUPERSAMPLING, Sheet, font_of, radius_of
from sa2va.media.writer import SUFFIXES as VIDEO_SUFFIXES
from sa2va.media.writer import VideoWriter
from sa2va.types import Frame

WHITE: Color = (255, 255, 255)
SILENCE: Color = (196, 199, 206)  # color of words not spoken yet
LEAST_LETTERS = 8  # px
LEGEND = (100.0, 250.0, 500.0)  # ms
FPS = 15
LINGER = 1600.0  # ms that the last frame of a film stays
SUFFIXES = (*VIDEO_SUFFIXES, ".gif")

Made = Sequence[tuple[int, Fixation]]  # fixations so far, each with the number of its pack


def draw_scanpath(sheet: Sheet, now: float = math.inf) -> Frame:
    """Draw a scanpath up to a moment.

    Args:
        sheet: picture, scanpath and words.
        now: ms; inf = the whole scanpath, with the further samples.

    Returns:
        uint8 (height, width, 3): the picture, and below it the words with the numbers of their fixations.
    """
    canvas = sheet.background.copy()
    pen = ImageDraw.Draw(canvas, "RGBA")
    if sheet.target is not None:
        _draw_target(pen, sheet)
    if now == math.inf:
        _draw_others(pen, sheet)
    packs = enumerate(sheet.scanpath.packs)
    made = [(pack, fixation) for pack, row in packs for fixation in row.fixations if fixation.start <= now]
    _draw_path(pen, sheet, made)
    discs = _discs(sheet, made, now)
    _draw_discs(pen, discs)
    _draw_numbers(pen, discs)
    _draw_words(pen, sheet, made, now)
    _draw_legend(pen, sheet)
    size = canvas.width // SUPERSAMPLING, canvas.height // SUPERSAMPLING
    return np.array(canvas.resize(size, Image.Resampling.BOX))


def film_scanpath(sheet: Sheet, fps: float = FPS) -> Generator[Frame]:
    """Draw a scanpath in real time: words appear when they are heard, fixations grow while they last."""
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
        fps: frames per second.

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
    # GIF counts in hundredths of a second: round the end of each frame, so that errors do not add up.
    durations = np.diff([10 * round(100 * number / fps) for number in range(len(rest) + 2)]).tolist()  # ms
    with whole_file(path) as part:
        first.save(part, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def _draw_target(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    assert sheet.target is not None
    bars = (*sheet.corner, *sheet.corner)
    box = [SUPERSAMPLING * (value * sheet.scale + bar) for value, bar in zip(sheet.target, bars, strict=True)]
    for thickness, color in ((4, (*WHITE, 220)), (2, (*INK, 255))):
        pen.rounded_rectangle(box, 8 * SUPERSAMPLING, outline=color, width=thickness * SUPERSAMPLING)


def _draw_others(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    radius = 0.0042 * LONGER_SIDE * SUPERSAMPLING
    for path in sheet.others:
        for pack, row in enumerate(path.packs):
            color = sheet.colors[min(pack, len(sheet.colors) - 1)]
            for fixation in row.fixations:
                _fill_circle(pen, *sheet.place(fixation), radius, color, 150)


def _draw_path(pen: ImageDraw.ImageDraw, sheet: Sheet, made: Made) -> None:
    places = [sheet.place(fixation) for _, fixation in made]
    for thickness, color in ((6, (*WHITE, 235)), (3, None)):
        for (pack, _), start, end in zip(made[1:], places, places[1:], strict=False):
            line = (*sheet.colors[pack], 255) if color is None else color
            pen.line((*start, *end), fill=line, width=thickness * SUPERSAMPLING)


@dataclass(frozen=True, kw_only=True)
class _Disc:
    """A numbered fixation on the supersampled sheet."""

    number: int
    x: float
    y: float
    radius: float
    color: Color

    def covers(self, x: float, y: float, margin: float) -> bool:
        return math.hypot(x - self.x, y - self.y) < self.radius + margin


def _discs(sheet: Sheet, made: Made, now: float) -> list[_Disc]:
    discs = []
    for number, (pack, fixation) in enumerate(made, 1):
        x, y = sheet.place(fixation)
        radius = SUPERSAMPLING * radius_of(min(now - fixation.start, fixation.duration))
        discs.append(_Disc(number=number, x=x, y=y, radius=radius, color=sheet.colors[pack]))
    return discs


def _draw_discs(pen: ImageDraw.ImageDraw, discs: Sequence[_Disc]) -> None:
    """Draw small discs over large ones, so that every one is visible."""
    rim = 0.0028 * LONGER_SIDE * SUPERSAMPLING
    for disc in sorted(discs, key=lambda disc: -disc.radius):
        _fill_circle(pen, disc.x, disc.y, disc.radius + rim, WHITE)
        _fill_circle(pen, disc.x, disc.y, disc.radius, disc.color, 235)


def _draw_numbers(pen: ImageDraw.ImageDraw, discs: Sequence[_Disc]) -> None:
    """Write each number into its disc, or on a badge at its rim if a smaller disc covers the center."""
    least, rim = 0.0135 * LONGER_SIDE * SUPERSAMPLING, 0.002 * LONGER_SIDE * SUPERSAMPLING
    taken: list[tuple[float, float]] = []
    for disc in sorted(discs, key=lambda disc: disc.radius):
        others = [other for other in discs if other is not disc]
        size = max(1.05 * disc.radius, least)
        x, y = disc.x, disc.y
        if any(other.radius <= disc.radius and other.covers(x, y, 0.45 * size) for other in others):
            turns = [turn * math.pi / 6 for turn in range(12)]
            spots = [(x + disc.radius * math.cos(turn), y + disc.radius * math.sin(turn)) for turn in turns]
            crowd = [(other.x, other.y) for other in others] + taken
            x, y = max(spots, key=lambda spot: min(math.dist(spot, place) for place in crowd))
            _fill_circle(pen, x, y, 0.8 * least + rim, WHITE)
            _fill_circle(pen, x, y, 0.8 * least, disc.color)
            size = 0.95 * least
        pen.text((x, y), str(disc.number), _ink_on(disc.color), font_of(size), "mm")
        taken.append((x, y))


def _fill_circle(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: Color, alpha: int = 255) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*color, alpha))


def _draw_words(pen: ImageDraw.ImageDraw, sheet: Sheet, made: Made, now: float) -> None:
    below, last = sheet.size[1], len(sheet.chips) - 1
    area = (0, below, sheet.size[0], below + sheet.chips[-1].bottom)
    pen.rectangle([SUPERSAMPLING * value for value in area], fill=PAPER)  # over discs that reach below the picture
    numbers: dict[int, list[str]] = {}
    for number, (pack, _) in enumerate(made, 1):
        numbers.setdefault(pack, []).append(str(number))
    for pack, chip in enumerate(sheet.chips):
        is_heard, is_word = sheet.moments[pack] <= now, 0 < pack < last
        color = sheet.colors[pack] if is_heard else SILENCE
        box = (chip.left, below + chip.top, chip.left + chip.width, below + chip.top + chip.height)
        fill = (*color, 255) if is_word and is_heard else None
        radius, outline = chip.height * SUPERSAMPLING / 2, (*color, 255)
        corners = [SUPERSAMPLING * value for value in box]
        pen.rounded_rectangle(corners, radius, fill=fill, outline=outline, width=2 * SUPERSAMPLING)
        middle = SUPERSAMPLING * (chip.left + chip.width / 2)
        if is_heard or not is_word:
            font = font_of(0.6 * chip.height * SUPERSAMPLING)
            place = middle, SUPERSAMPLING * (below + chip.top + chip.height / 2)
            write(pen, place, chip.text, _ink_on(color) if fill else color, round(font.size), "mm")
        row = numbers.get(pack, ["-"] if is_heard and now == math.inf else [])
        text, small = fit_numbers(row, SUPERSAMPLING * chip.width * 1.25, 0.52 * chip.height * SUPERSAMPLING)
        pen.text((middle, SUPERSAMPLING * (below + chip.top + 1.45 * chip.height)), text, QUIET, small, "mm")


def fit_numbers(numbers: Sequence[str], width: float, size: float) -> tuple[str, ImageFont.FreeTypeFont]:
    """Fit the numbers of a word's fixations into a width: shrink them, then abbreviate to "7 ... 26".

    Args:
        numbers: consecutive numbers.
        width: px.
        size: preferred size of the letters, px.

    Returns:
        The text and its font.
    """
    text, font = " ".join(numbers), font_of(size)
    while font.getlength(text) > width:
        if font.size > LEAST_LETTERS * SUPERSAMPLING:
            font = font_of(font.size - 1)
        elif len(numbers) > 2:
            numbers = [numbers[0], numbers[-1]]
            text, font = " \u2026 ".join(numbers), font_of(size)
        else:
            break
    return text, font


def _draw_legend(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    """Explain numbers, colors and sizes."""
    height = SUPERSAMPLING * sheet.chips[-1].height
    bottom = SUPERSAMPLING * (sheet.size[1] + sheet.chips[-1].bottom)
    font = font_of(0.46 * height)
    words = "numbers: order of the fixations    color: the word just heard"
    pen.text((0.34 * height, bottom - 0.55 * height), words, QUIET, font, "lm")
    if not sheet.legend_width:
        return
    x, middle = SUPERSAMPLING * (sheet.size[0] - LEGEND_WIDTH * LONGER_SIDE), bottom - 1.45 * height
    for duration in LEGEND:
        radius = radius_of(duration) * SUPERSAMPLING
        x += radius
        _fill_circle(pen, x, middle, radius, SILENCE)
        label = f"{duration:g} ms" if duration == LEGEND[-1] else f"{duration:g}"
        pen.text((x, middle), label, INK, font, "mm")
        x += radius + 0.5 * height
    pen.text((x, middle), "looked at", QUIET, font, "lm")


def _ink_on(color: Color) -> Color:
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else WHITE
