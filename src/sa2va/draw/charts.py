"""Draw small charts as SVG text that follows the colors of the page: histogram, line with a band, dots, interval.

Flow: values -> SVG -> body of draw.page.document, whose style has the classes below (CHART_STYLE).
Shapes: P points. Coordinates of a chart are its data's; both axes start at 0 and end at 1 unless told otherwise.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 360, 240  # of a chart in units of its view box; a page scales it
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40  # margins
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHART_STYLE = """
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); } svg .fill { fill: var(--blue); } svg .band { fill: var(--blue); opacity: 0.2; }
svg .curve { fill: none; stroke: var(--blue); stroke-width: 2; }
svg .reference { fill: none; stroke: var(--soft); stroke-dasharray: 4 4; }
svg.interval { width: 110px; height: 14px; min-width: 60px; } svg.interval .whole { stroke: var(--line); }
svg.interval .range { stroke: var(--blue); stroke-width: 5; opacity: 0.45; } svg.interval .value { fill: var(--ink); }
"""


def histogram(values: ArrayLike, x_name: str, y_name: str = "items", num_bins: int = 20) -> str:
    """Draw how many values lie in each of equal bins of 0..1; values outside count to the nearest bin."""
    counts, _ = np.histogram(np.clip(np.asarray(values, float), 0, 1), num_bins, (0, 1))
    top = math.ceil(max(int(counts.max(initial=0)), 1) / 4) * 4  # so that all ticks are whole
    bars = "".join(
        _bar(place / num_bins, (place + 1) / num_bins, count / top, f"{count} {y_name}")
        for place, count in enumerate(counts.tolist())
        if count
    )
    return _chart(bars, x_name, y_name, y_top=float(top))


def band(middle: ArrayLike, low: ArrayLike, high: ArrayLike, x_name: str, y_name: str) -> str:
    """Draw a line with a band around it at P equally spaced places of 0..1: (P,) each, P >= 2."""
    middle, low, high = (np.asarray(one, float) for one in (middle, low, high))
    places = np.linspace(0, 1, len(middle))
    outline = [*zip(places, high, strict=True), *zip(places[::-1], low[::-1], strict=True)]
    shapes = f"<polygon class='band' points='{_points(outline)}'/>"
    return _chart(shapes + _curve(places, middle), x_name, y_name)


def line(x: ArrayLike, y: ArrayLike, x_name: str, y_name: str) -> str:
    """Draw a line through P points: (P,) each, in 0..1."""
    return _chart(_curve(np.asarray(x, float), np.asarray(y, float)), x_name, y_name)


def reliability(counts: ArrayLike, confidences: ArrayLike, outcomes: ArrayLike, x_name: str, y_name: str) -> str:
    """Draw the mean outcome against the mean confidence of bins, (P,) each; the area of a dot is its bin's count."""
    counts = np.asarray(counts, float)
    radii = 3 + 9 * np.sqrt(counts / max(float(counts.max(initial=0)), 1))
    dots = "".join(
        f"<circle class='fill' cx='{_x(x)}' cy='{_y(y)}' r='{radius:.1f}'><title>{count:.0f} values: {x_name} "
        f"{x:.2f}, {y_name} {y:.2f}</title></circle>"
        for count, x, y, radius in zip(counts, np.ravel(confidences), np.ravel(outcomes), radii, strict=True)
        if count
    )
    return _chart(f"<polyline class='reference' points='{_points([(0, 0), (1, 1)])}'/>{dots}", x_name, y_name)


def interval(value: float, low: float, high: float) -> str:
    """Draw a value in 0..1 and its interval on one short line, for a cell of a table."""
    left, right, place = (100 * min(max(one, 0.0), 1.0) for one in (low, high, value))
    return (
        f"<svg class='interval' viewBox='0 0 100 14' preserveAspectRatio='none' role='img' "
        f"aria-label='{value:.3f}, 95 % interval {low:.3f} to {high:.3f}'>"
        "<line class='whole' x1='0' x2='100' y1='7' y2='7'/>"
        f"<line class='range' x1='{left:.1f}' x2='{right:.1f}' y1='7' y2='7'/>"
        f"<rect class='value' x='{place - 0.8:.1f}' y='1' width='1.6' height='12'/></svg>"
    )


def _x(value: float) -> str:
    return f"{LEFT + value * (WIDTH - LEFT - RIGHT):.1f}"


def _y(value: float) -> str:
    return f"{HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM):.1f}"


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_x(x)},{_y(y)}" for x, y in pairs)


def _curve(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> str:
    return f"<polyline class='curve' points='{_points([*zip(x, y, strict=True)])}'/>"


def _bar(left: float, right: float, height: float, title: str) -> str:
    place, end = float(_x(left)), float(_x(right))
    top = float(_y(height))
    size = f"width='{max(end - place - 1, 1):.1f}' height='{HEIGHT - BOTTOM - top:.1f}'"
    return f"<rect class='fill' x='{place:.1f}' y='{top:.1f}' {size}><title>{escape(title)}</title></rect>"


def _chart(shapes: str, x_name: str, y_name: str, y_top: float = 1.0) -> str:
    """Return shapes between their axes; y labels go up to `y_top`."""
    grid = "".join(
        f"<line class='grid' x1='{_x(0)}' x2='{_x(1)}' y1='{_y(tick)}' y2='{_y(tick)}'/>"
        f"<text x='{LEFT - 6}' y='{float(_y(tick)) + 4:.1f}' text-anchor='end'>{tick * y_top:.3g}</text>"
        f"<text x='{_x(tick)}' y='{HEIGHT - BOTTOM + 16}' text-anchor='middle'>{tick:g}</text>"
        for tick in TICKS
    )
    middle = (HEIGHT - BOTTOM + TOP) / 2
    names = (
        f"<text x='{(WIDTH + LEFT - RIGHT) / 2}' y='{HEIGHT - 6}' text-anchor='middle'>{escape(x_name)}</text>"
        f"<text transform='translate(11 {middle}) rotate(-90)' text-anchor='middle'>{escape(y_name)}</text>"
    )
    label = escape(f"{y_name} over {x_name}", quote=True)
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'>{grid}{shapes}{names}</svg>"
