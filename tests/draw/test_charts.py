"""Check charts: well-formed SVG, marks at the right places, names escaped."""

import re
import xml.etree.ElementTree as ET

import pytest

from sa2va.draw import charts


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def height_at(value: float) -> float:
    return charts.HEIGHT - charts.BOTTOM - value * (charts.HEIGHT - charts.TOP - charts.BOTTOM)


def test_bars_of_a_histogram_are_as_high_as_their_counts() -> None:
    drawn = parse(charts.histogram([0.0, 0.04, 0.06, 1.0, 1.7, -0.2], "IoU", num_bins=20))
    bars = drawn.findall("rect")
    assert [bar.findtext("title") for bar in bars] == ["3 items", "1 items", "2 items"]
    full = charts.HEIGHT - charts.TOP - charts.BOTTOM  # of 4 items, the next multiple of 4
    assert [float(bar.get("height", "")) * 4 / full for bar in bars] == pytest.approx([3, 1, 2], abs=0.01)
    assert float(bars[0].get("x", "")) == charts.LEFT


def test_a_histogram_of_nothing_is_an_empty_chart() -> None:
    assert not parse(charts.histogram([], "IoU")).findall("rect")


def test_dots_of_a_reliability_chart_lie_on_the_diagonal_if_calibrated() -> None:
    drawn = parse(charts.reliability([4, 0, 1], [0.2, 0.0, 0.8], [0.2, 0.0, 0.8], "presence", "there"))
    dots = drawn.findall("circle")
    assert len(dots) == 2  # an empty bin has none
    assert float(dots[0].get("r", "")) > float(dots[1].get("r", ""))
    assert [float(dot.get("cy", "")) for dot in dots] == pytest.approx([height_at(0.2), height_at(0.8)], abs=0.06)


def test_a_band_closes_around_its_line() -> None:
    drawn = parse(charts.band([0.5, 0.5, 0.4], [0.4, 0.3, 0.2], [0.6, 0.7, 0.8], "time", "J&F"))
    outline, curve = drawn.find("polygon"), drawn.find("polyline")
    assert outline is not None and curve is not None
    assert len(outline.get("points", "").split()) == 6
    assert len(curve.get("points", "").split()) == 3


def test_an_interval_outside_the_axis_is_cut() -> None:
    drawn = parse(charts.interval(1.2, -0.5, 3.0))
    stretch = drawn.find("line[@class='range']")
    assert stretch is not None
    assert (stretch.get("x1"), stretch.get("x2")) == ("0.0", "100.0")


def test_names_are_escaped() -> None:
    drawn = charts.line([0, 1], [1, 0], "<b>'&", "risk")
    assert "<b>" not in drawn
    assert parse(drawn).get("aria-label") == "risk over <b>'&"


def test_every_class_has_a_style() -> None:
    drawn = (
        charts.interval(0.5, 0.4, 0.6) + charts.band([0, 1], [0, 1], [0, 1], "x", "y") + charts.histogram([0.5], "x")
    )
    drawn += charts.reliability([1], [0.5], [0.5], "x", "y")
    used = set(re.findall(r"class='(\w+)'", drawn))
    assert {name for name in used if f".{name}" not in charts.CHART_STYLE} == set()
