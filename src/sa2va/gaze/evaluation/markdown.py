"""Write a table of gaze as Markdown, ready for a page: figures, how sure they are, how ours differs, what they mean.

Flow: Rows, Bars, DelayCurves -> tables; what a reader has to know of the columns -> notes.
Shapes: none.
"""

import math
from collections.abc import Mapping, Sequence

from sa2va.gaze.baselines.slots import ART, GRID, PATCH, SCANVLA
from sa2va.gaze.evaluation.bars import Bar
from sa2va.gaze.evaluation.simulated import PICTURE_BITS, DelayCurve, DrawnReport
from sa2va.gaze.evaluation.table import COLUMNS, TESTED, Column, Row, strongest_reference

DASH = "-"


def figure(value: float, style: str) -> str:
    return DASH if math.isnan(value) else format(value, style)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Those in which any row has a figure."""
    return [column for column in COLUMNS if any(math.isfinite(row.figures.get(column.key, math.nan)) for row in rows)]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are figures."""
    rows: list[Sequence[str]] = [head, ["---", *["--:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in rows)


def figures_table(rows: Sequence[Row]) -> str:
    columns = columns_of(rows)
    lines = [[row.name, *(figure(row.figures.get(c.key, math.nan), c.style) for c in columns)] for row in rows]
    return table(["system", *(column.title for column in columns)], lines)


def intervals_table(rows: Sequence[Row]) -> str:
    """Figure and 95 % interval of the columns that are tested."""
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
    """Ours less each row: difference, its 95 % interval and p."""
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
    return table(["ours less this row", *(column.title for column in TESTED)], lines)


def sure_tables(rows: Sequence[Row]) -> list[str]:
    """Figures, how sure they are, and how ours differs where that was asked."""
    tests = [tests_table(rows)] if any(row.ours_less for row in rows) else []
    return [figures_table(rows), intervals_table(rows), *tests]


def p_value(p: float) -> str:
    """A thousand resamples tell no smaller p than 0.001."""
    return "<= 0.001" if p <= 0.001 else f"{p:.3f}"


def bars_table(bars: Mapping[str, Sequence[Bar]]) -> str:
    lines = []
    for name, row in bars.items():
        for bar in row:
            sure = "" if math.isnan(bar.low) else f" [{bar.low:.3f}, {bar.high:.3f}]"
            lines.append([f"{name}: {bar.name}", f"{bar.value:.3f}{sure}", bar.wanted, verdict(bar)])
    return table(["what a row should reach", "figure, 95 % interval", "bar", "verdict"], lines)


def verdict(bar: Bar) -> str:
    """Say "reached", "missed", or "about" where the bar lies inside the interval."""
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
    return table(["bits where words are told late, ms", *(f"{shift:+.0f}" for shift in shifts), "best"], lines)


def table_notes(rows: Sequence[Row], *, in_pictures: bool = False) -> list[str]:
    """What a reader has to know of the columns.

    Args:
        rows: of the table.
        in_pictures: bars stand beside every picture, so that one who only knows them gains PICTURE_BITS.
    """
    reference = strongest_reference(rows)
    notes = ["bits: per fixation, above a density that is even over the canvas of 512 x 320 px."]
    if in_pictures:
        notes.append(
            f"Bars stand beside every drawn picture; to know them alone is worth {PICTURE_BITS:.2f} bits "
            '("random, in the picture"). in picture: bits above a density that is even over the picture.'
        )
    if reference is not None:
        notes.append(f"above ref: bits above the strongest reference, here {reference.name!r}.")
    notes += [
        "Samples are compared with as many people as each person is: all of the case but one, whose seat they take.",
        "size NLL: nats per word; ECE: of the chance that nobody looks anew during a word. Both are counted, for every "
        "row alike, from as many looks as there are other people, half a look added to each size.",
        "curve: mean difference of the share of fixations on the target by words still to come. self SS: likeness "
        "among samples. EMD, KL: of saccades in px; EMD ms: of durations.",
        "Intervals and p: 1,000 bootstrap resamples of pictures, everything about one picture drawn together; p is "
        "two-sided. Distances (EMD, KL, curve, ECE) lean upwards in resamples, so that their intervals reach far up.",
    ]
    if any(row.name in (ART.name, SCANVLA.name) for row in rows):
        notes.append(
            f"ART-style and ScanVLA-style are decoders of ours after the two papers, not the published systems. They "
            f"get the beliefs, states and image features of ours, in the same cells of {GRID.cell} px, and attend "
            f"to patches of {PATCH} x {PATCH} cells."
        )
    return notes


def drawn_page(report: DrawnReport, heading: str) -> str:
    """Everything of a report on drawn scenes."""
    parts = [heading, *sure_tables(report.rows)]
    parts += [bars_table(report.bars)] if report.bars else []
    parts += [delays_table(report.delays)] if report.delays else []
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in table_notes(report.rows, in_pictures=True))]) + "\n"


def recorded_page(rows: Sequence[Row], heading: str) -> str:
    """Everything of a table on recorded gaze."""
    notes = "\n".join(f"- {note}" for note in table_notes(rows))
    return "\n\n".join([heading, *sure_tables(rows), notes]) + "\n"
