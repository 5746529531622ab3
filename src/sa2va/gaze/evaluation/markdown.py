"""Format gaze results as Markdown: figures, intervals, paired tests, bars, delay curves and notes.

Flow: Rows, Bars, DelayCurves -> tables and notes -> simulated_page, recorded_page.
"""

import math
from collections.abc import Mapping, Sequence

from sa2va.gaze.baselines.slots import ART, GRID, PATCH, SCANVLA
from sa2va.gaze.evaluation.bars import Bar
from sa2va.gaze.evaluation.simulated import PICTURE_BITS, DelayCurve, SimulatedReport
from sa2va.gaze.evaluation.table import COLUMNS, TESTED, Column, Row, strongest_reference

DASH = "-"


def figure(value: float, style: str) -> str:
    return DASH if math.isnan(value) else format(value, style)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """List the columns in which some row has a figure."""
    return [column for column in COLUMNS if any(math.isfinite(row.figures.get(column.key, math.nan)) for row in rows)]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table whose first column is text and whose others are figures."""
    rows: list[Sequence[str]] = [head, ["---", *["--:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in rows)


def figures_table(rows: Sequence[Row]) -> str:
    columns = columns_of(rows)
    lines = [[row.name, *(figure(row.figures.get(c.key, math.nan), c.style) for c in columns)] for row in rows]
    return table(["system", *(column.title for column in columns)], lines)


def intervals_table(rows: Sequence[Row]) -> str:
    """Format figures and 95 % intervals of the tested columns."""
    lines = []
    for row in rows:
        cells = []
        for column in TESTED:
            text = figure(row.figures.get(column.key, math.nan), column.style)
            if column.key in row.intervals:
                low, high = row.intervals[column.key]
                text += f" [{low:{column.style}}, {high:{column.style}}]"
            cells.append(text)
        lines.append([row.name, *cells])
    return table(["system, 95 % interval", *(column.title for column in TESTED)], lines)


def tests_table(rows: Sequence[Row]) -> str:
    """Format our row minus each row: difference, 95 % interval and p."""
    lines = []
    for row in rows:
        if row.ours_less:
            found = [(row.ours_less.get(column.key), column.style) for column in TESTED]
            lines.append([
                row.name,
                *(
                    DASH if t is None else f"{t.value:+{s}} [{t.low:+{s}}, {t.high:+{s}}], p {p_value(t.p)}"
                    for t, s in found
                ),
            ])  # fmt: skip
    return table(["ours minus this row", *(column.title for column in TESTED)], lines)


def sure_tables(rows: Sequence[Row]) -> list[str]:
    """Format figures, intervals, and paired tests if there are any."""
    tests = [tests_table(rows)] if any(row.ours_less for row in rows) else []
    return [figures_table(rows), intervals_table(rows), *tests]


def p_value(p: float) -> str:
    """Format a p value; 1,000 resamples resolve no less than 0.001."""
    return "<= 0.001" if p <= 0.001 else f"{p:.3f}"


def bars_table(bars: Mapping[str, Sequence[Bar]]) -> str:
    lines = []
    for name, row in bars.items():
        for bar in row:
            sure = "" if math.isnan(bar.low) else f" [{bar.low:.3f}, {bar.high:.3f}]"
            lines.append([f"{name}: {bar.name}", f"{bar.value:.3f}{sure}", bar.wanted, verdict(bar)])
    return table(["criterion", "figure, 95 % interval", "bar", "verdict"], lines)


def verdict(bar: Bar) -> str:
    """Return "reached", "missed", or "about" if the bar lies inside the interval."""
    return "about" if bar.open else "reached" if bar.ok else "missed"


def delays_table(delays: Sequence[DelayCurve]) -> str:
    shifts = sorted(delays[0].bits)
    lines = [
        [
            curve.people,
            *(f"{curve.bits[shift]:.3f}" for shift in shifts),
            f"{curve.best:+.0f}",
        ]
        for curve in delays
    ]
    return table(["bits with words delayed by, ms", *(f"{shift:+.0f}" for shift in shifts), "best"], lines)


def table_notes(rows: Sequence[Row], *, in_pictures: bool = False) -> list[str]:
    """List notes that explain the columns.

    Args:
        rows: Rows of the table.
        in_pictures: All images are letterboxed alike; knowing the letterbox bars alone is worth PICTURE_BITS.
    """
    reference = strongest_reference(rows)
    notes = ["bits: per fixation, above a uniform density over the canvas of 512 x 320 px."]
    if in_pictures:
        notes.append(
            f"All drawn images have letterbox bars at both sides; knowing these alone is worth {PICTURE_BITS:.2f} bits "
            '("random, in the picture"). in picture: bits above a uniform density over the image.'
        )
    if reference is not None:
        notes.append(f"above ref: bits above the strongest reference, here {reference.name!r}.")
    notes += [
        "Leave-one-out: each sample replaces one person and is compared with the others, as that person is.",
        "size NLL: nats per word. ECE: calibration error of the probability of no new fixation during a word. For all "
        "rows, both are estimated from as many scanpaths as there are other people, with half a count added per size.",
        "curve: mean difference of the share of fixations on the target, by words left. self SS: similarity among "
        "samples. EMD, KL: of saccade amplitudes in px. EMD ms: of fixation durations.",
        "Intervals and p: 1,000 bootstrap resamples of images with all their cases; p is two-sided. Distances (EMD, "
        "KL, curve, ECE) are biased upward in resamples, so their intervals extend further up.",
    ]
    if any(row.name in (ART.name, SCANVLA.name) for row in rows):
        notes.append(
            f"ART-style and ScanVLA-style are our reimplementations after the two papers, not the published systems. "
            f"Their inputs are the beliefs, states and image features of our decoder in the same cells of {GRID.cell} "
            f"px, in patches of {PATCH} x {PATCH} cells."
        )
    return notes


def simulated_page(report: SimulatedReport, heading: str) -> str:
    """Format a report on simulated gaze as a page."""
    parts = [heading, *sure_tables(report.rows)]
    parts += [bars_table(report.bars)] if report.bars else []
    parts += [delays_table(report.delays)] if report.delays else []
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in table_notes(report.rows, in_pictures=True))]) + "\n"


def recorded_page(rows: Sequence[Row], heading: str) -> str:
    """Format a table on recorded gaze as a page."""
    notes = "\n".join(f"- {note}" for note in table_notes(rows))
    return "\n\n".join([heading, *sure_tables(rows), notes]) + "\n"
