"""Plot the tables of the ablations: one panel a column, one row an arm, a dot per seed and their mean.

Flow: Results -> draw_tables -> cotraining.png, seg-tokens.png, data-scale.png. Needs matplotlib (extra `plots`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va.extras import needs
from sa2va.files.atomic import whole_file
from sa2va.world.ablations.arms import COLUMNS, TABLES, Column, Table
from sa2va.world.ablations.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, SEEDS, BASE, CHANCE = "#3f90da", "#9cc4e8", "#1c1e24", "#bd1f01"
PER_LINE, WIDTH, HEIGHT, DPI = 5, 2.0, 0.32, 150  # panels a line; inches of a panel, of a row; dots per inch
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.edgecolor": "#7f8490", "grid.color": "#e3e5ea", "legend.frameon": False,
}  # fmt: skip


def draw_tables(results: Results, folder: Path) -> list[Path]:
    """Draw each table into a PNG file in a folder.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with needs("plots"):
        import matplotlib as mpl
    written = []
    with mpl.rc_context(STYLE):
        for name, table in TABLES.items():
            with whole_file(folder / f"{name}.png") as part:
                _draw_table(table, results).savefig(part, dpi=DPI, format="png")
            written.append(folder / f"{name}.png")
    return written


def _draw_table(table: Table, results: Results) -> "Figure":
    from matplotlib.figure import Figure

    columns = [column for column in COLUMNS if any(results.figures(row.arm, column.name) for row in table.rows)]
    lines = max(1, -(-len(columns) // PER_LINE))
    size = (1.8 + WIDTH * PER_LINE, 0.6 + lines * (0.7 + HEIGHT * len(table.rows)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, PER_LINE, sharey=True, squeeze=False).flatten()
    for axes, column in zip(panels, columns, strict=False):
        _draw_panel(axes, table, column, results)
    for axes in panels[len(columns) :]:
        axes.remove()
    figure.suptitle(f"{table.title}: each seed, their mean, base (dashed), chance (dotted)", fontsize=10)
    return figure


def _draw_panel(axes: Any, table: Table, column: Column, results: Results) -> None:
    places = range(len(table.rows))
    for place, row in zip(places, table.rows, strict=True):
        values = list(results.figures(row.arm, column.name).values())
        axes.plot(values, [place] * len(values), "o", color=SEEDS, markersize=4)
        if mean := results.spread(row.arm, column.name):
            axes.plot(mean.mean, place, "D", color=OURS, markersize=6)
    if base := results.spread(table.rows[0].arm, column.name):
        axes.axvline(base.mean, color=BASE, linestyle="--", linewidth=0.8)
    if (chance := results.chance(column.name)) is not None:
        axes.axvline(chance, color=CHANCE, linestyle=":", linewidth=1)
    axes.set(title=column.name, yticks=list(places), yticklabels=[row.label for row in table.rows])
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.grid(axis="x")
