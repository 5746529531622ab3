"""Plot an evaluation on drawn scenes: bits per fixation, hits by word, pack sizes, delayed words.

Flow: SimulatedReport -> draw_plots -> bits.png, hits.png, sizes.png, delays.png. Needs matplotlib (extra `plots`).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sa2va.files.atomic import whole_file
from sa2va.files.claim import Claim
from sa2va.gaze.baselines.slots import ART, SCANVLA
from sa2va.gaze.evaluation.pooled import MAX_LEFT
from sa2va.gaze.evaluation.simulated import DelayCurve, SimulatedReport
from sa2va.gaze.evaluation.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILES = Claim((r"(bits|hits|sizes|delays)\.png",))
WIDTH, HEIGHT, DPI = 7.2, 3.9, 150  # inches; dots per inch
PEOPLE, OURS, OTHER = "#1c1e24", "#3f90da", "#c9ccd3"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": "#7f8490",
    "grid.color": "#e3e5ea",
    "legend.frameon": False,
}


def require_matplotlib() -> None:
    """Check that charts can be drawn.

    Raises:
        ValueError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ValueError("--plots needs matplotlib; install it with: pip install 'sa2va[plots]'")


def draw_plots(report: SimulatedReport, folder: Path) -> list[Path]:
    """Write bits.png, hits.png, sizes.png and, if words were delayed, delays.png.

    Raises:
        ValueError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib as mpl

    ours = {row.name for row in report.rows if row.name in report.bars or row.name.startswith("event decoder")}
    decoders = (*ours, ART.name, SCANVLA.name)
    rows = [row for row in report.rows if row.kind == "people" or row.name.startswith(decoders)]
    rows = [row for row in rows if "hit, after" in row.figures]
    with mpl.rc_context(STYLE):
        figures = {
            "bits": _plot_bits([row for row in report.rows if "bits" in row.figures], ours),
            "hits": _plot_hits(rows),
            "sizes": _plot_sizes(rows),
        }
        if report.delays:
            figures["delays"] = _plot_delays(report.delays)
        for name, figure in figures.items():
            with whole_file(folder / f"{name}.png") as part:
                figure.savefig(part, dpi=DPI, format="png")
    return [folder / f"{name}.png" for name in figures]


def _new_figure(height: float = HEIGHT) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _colors(rows: Sequence[Row]) -> dict[str, Any]:
    """Give each row a color, people black."""
    import matplotlib as mpl

    cycle = iter(mpl.color_sequences["petroff10"])
    return {row.name: PEOPLE if row.kind == "people" else next(cycle) for row in rows}


def _plot_bits(rows: Sequence[Row], ours: set[str]) -> "Figure":
    """Plot one bar per row, longest first, with its 95 % interval."""
    from matplotlib.patches import Patch

    ordered = sorted(rows, key=lambda row: row.figures["bits"])
    values = np.array([row.figures["bits"] for row in ordered])
    intervals = np.array(
        [row.intervals.get("bits", (value, value)) for row, value in zip(ordered, values, strict=True)]
    )
    figure, axes = _new_figure(height=1.1 + 0.24 * len(ordered))
    colors = [PEOPLE if row.kind == "people" else OURS if row.name in ours else OTHER for row in ordered]
    errors = np.abs(intervals.T - values)  # (2, rows)
    bars = axes.barh([row.name for row in ordered], values, xerr=errors, color=colors, ecolor="#7f8490", capsize=2)
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.set(title="Information gain over a uniform density", xlabel="bits per fixation")
    axes.margins(x=0.1, y=0.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    legend = {"people": PEOPLE, "our decoder": OURS, "baseline": OTHER}
    axes.legend(handles=[Patch(color=color, label=label) for label, color in legend.items()], loc="lower right")
    return figure


def _plot_hits(rows: Sequence[Row]) -> "Figure":
    """Plot the share of fixations on the target by the number of words still to come."""
    figure, axes = _new_figure()
    lefts = range(MAX_LEFT, -1, -1)
    places = ["before", *map(str, lefts), "after"]
    keys = ["hit, before", *(f"hit, {left} words left" for left in lefts), "hit, after"]
    for row in rows:
        values = [row.figures.get(key, np.nan) for key in keys]
        style = "--" if row.kind == "people" else "-"
        axes.plot(places, values, style, color=_colors(rows)[row.name], marker="o", markersize=4, label=row.name)
    axes.set(title="Fixations on the target", xlabel="words still to come", ylabel="share of fixations")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.legend(loc="upper left")
    return figure


def _plot_sizes(rows: Sequence[Row]) -> "Figure":
    """Plot the share of words with 0, 1, 2 and at least 3 fixations, one group of bars per count."""
    figure, axes = _new_figure()
    width = 0.8 / max(len(rows), 1)
    for number, row in enumerate(rows):
        left = np.arange(4) + (number - (len(rows) - 1) / 2) * width
        values = [row.figures.get(f"packs of {size}", np.nan) for size in range(4)]
        axes.bar(left, values, 0.9 * width, color=_colors(rows)[row.name], label=row.name)
    axes.set(title="Fixations per word", xlabel="fixations", ylabel="share of words")
    axes.set_xticks(range(4), ["0", "1", "2", "3 or more"])
    axes.grid(axis="y")
    axes.legend(loc="upper right")
    return figure


def _plot_delays(curves: Sequence[DelayCurve]) -> "Figure":
    """Plot bits per fixation by the delay of the words, one line per group of people."""
    figure, axes = _new_figure()
    for curve in curves:
        points = sorted(curve.bits.items())
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=curve.people)
    axes.axvline(0, color=OTHER, zorder=0)
    axes.set(title="Words given late", xlabel="delay of the words (ms)", ylabel="bits per fixation")
    axes.grid(axis="y")
    axes.legend(loc="best")
    return figure
