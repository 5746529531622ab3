"""Draw what was measured on drawn scenes: bits, when eyes reach the target, sizes of packs, words told late.

Flow: DrawnReport -> draw_plots -> one small picture per question.
Shapes: px of a picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sa2va.draw.overlay import INK, PAPER, Color, palette
from sa2va.files.claim import Claim
from sa2va.gaze.baselines.slots import ART, SCANVLA
from sa2va.gaze.evaluation.pooled import MAX_LEFT
from sa2va.gaze.evaluation.simulated import DrawnReport
from sa2va.media.pictures import save_image
from sa2va.types import Frame

FILES = Claim((r"(bits|hits|sizes|delays)\.png",))
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 46, 64  # margins
GRAY: Color = (205, 208, 214)
TICKS = 5
NAME_WIDTH = 300  # of the names of bars


@dataclass(frozen=True)
class Chart:
    """Lines over the same places."""

    title: str
    places: Sequence[str]  # along x
    lines: Mapping[str, Sequence[float]]  # nan where there is nothing


def draw_plots(report: DrawnReport, folder: Path) -> list[Path]:
    """Write bits.png, hits.png, sizes.png and, where words were told late, delays.png."""
    rows = {row.name: row.figures for row in report.rows}
    files = {"bits": draw_bars("bits per fixation above a uniform density", _bits(rows))}
    shown = {name: figures for name, figures in rows.items() if "hit, after" in figures and "bits" in figures}
    shown |= {name: rows[name] for name in rows if name.startswith("people,")}
    keys = ["hit, before", *(f"hit, {left} words left" for left in range(MAX_LEFT, -1, -1)), "hit, after"]
    names = ["before", *(f"{left} left" for left in range(MAX_LEFT, -1, -1)), "after"]
    chosen = _without_references(shown)
    files["hits"] = draw_lines(
        Chart("share of fixations on the target, by words still to come", names, _series(chosen, keys))
    )
    keys = [f"packs of {size}" for size in range(4)]
    files["sizes"] = draw_lines(
        Chart("share of words with so many fixations", ["0", "1", "2", "3+"], _series(chosen, keys))
    )
    if report.delays:
        shifts = sorted(report.delays[0].bits)
        late = {one.people: [one.bits[s] for s in shifts] for one in report.delays}
        title = "bits per fixation when words are told so many ms late"
        files["delays"] = draw_lines(Chart(title, [f"{shift:+.0f}" for shift in shifts], late))
    paths = []
    for name, picture in files.items():
        paths.append(folder / f"{name}.png")
        save_image(paths[-1], picture)
    return paths


def _bits(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: figures["bits"] for name, figures in rows.items() if "bits" in figures}


def _without_references(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """People, ours and the re-built decoders."""
    return {n: f for n, f in rows.items() if n.startswith(("people,", "event decoder", ART.name, SCANVLA.name))}


def _series(rows: Mapping[str, Mapping[str, float]], keys: Sequence[str]) -> dict[str, list[float]]:
    return {name: [figures.get(key, float("nan")) for key in keys] for name, figures in rows.items()}


def draw_bars(title: str, values: Mapping[str, float]) -> Frame:
    """A bar per name, the longest first."""
    ordered = sorted(values.items(), key=lambda pair: -pair[1])
    step = 24
    sheet = Image.new("RGB", (WIDTH, TOP + step * len(ordered) + 12), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((12, 14), title, INK, _font(15))
    most = max([value for _, value in ordered] + [1e-6])
    room = WIDTH - NAME_WIDTH - 80
    for number, (name, value) in enumerate(ordered):
        y = TOP + number * step
        color = (48, 105, 200) if name.startswith("event decoder") else (60, 60, 66) if "law" in name else GRAY
        pen.text((12, y + 3), name, INK, _font(12))
        pen.rectangle((NAME_WIDTH, y + 3, NAME_WIDTH + max(1, room * max(value, 0) / most), y + 17), color)
        pen.text((NAME_WIDTH + room * max(value, 0) / most + 6, y + 3), f"{value:.2f}", INK, _font(12))
    return np.asarray(sheet)


def draw_lines(chart: Chart) -> Frame:
    """A line per name, with a legend below."""
    rows = -(-len(chart.lines) // 2)
    sheet = Image.new("RGB", (WIDTH, HEIGHT + 18 * rows), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((12, 14), chart.title, INK, _font(15))
    finite = np.array([value for line in chart.lines.values() for value in line], float)
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    low = 0.0 if low < 0.5 * high else low - 0.1 * (high - low)
    high = max(high + 0.05 * (high - low), low + 1e-6)

    def place(number: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * number / max(len(chart.places) - 1, 1)
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    for tick in np.linspace(low, high, TICKS):
        (x0, y), (x1, _) = place(0, tick), place(len(chart.places) - 1, tick)
        pen.line((x0, y, x1, y), GRAY)
        pen.text((8, y - 7), f"{tick:.2f}", INK, _font(11))
    for number, name in enumerate(chart.places):
        pen.text((place(number, low)[0], HEIGHT - BOTTOM + 8), name, INK, _font(11), anchor="ma")
    colors = [(int(r), int(g), int(b)) for r, g, b in palette(len(chart.lines))]
    for number, ((name, line), color) in enumerate(zip(chart.lines.items(), colors, strict=True)):
        color = INK if name.startswith("people,") else color
        points = [place(at, value) for at, value in enumerate(line) if np.isfinite(value)]
        pen.line(points, color, 3, joint="curve")
        for x, y in points:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), color)
        x, y = 16 + (number % 2) * WIDTH // 2, HEIGHT - 30 + 18 * (number // 2)
        pen.rectangle((x, y + 2, x + 12, y + 12), color)
        pen.text((x + 18, y), name, INK, _font(11))
    return np.asarray(sheet)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
