"""Write the tables of the ablations into a page, between marks, so that the text around them stays.

Flow: Results -> write_table, write_changes -> update_page: <!-- NAME --> ... <!-- /NAME --> in a Markdown file.
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sa2va.extras import needs
from sa2va.files.atomic import write_text
from sa2va.world.ablations.arms import COLUMNS, TABLES, Column, Table
from sa2va.world.ablations.results import Results, Spread

Cells = Sequence[str]


def write_table(table: Table, results: Results) -> str:
    """Write a table as Markdown: for each row ours, mean and deviation over seeds, and below it the paper's."""
    columns = [column for column in COLUMNS if any(results.spread(row.arm, column.name) for row in table.rows)]
    lines: list[Cells] = [["run", "seeds", *(column.name for column in columns)]]
    for row in table.rows:
        num_seeds = len(results.seeds(row.arm))
        cells = [_show(results.spread(row.arm, column.name), column, of=num_seeds) for column in columns]
        lines.append([f"**{row.label}**", str(num_seeds), *cells])
        if row.paper:
            lines.append(["the paper", "", *(_plain(row.paper.get(column.name), column) for column in columns)])
    lines.append(["chance", "", *(_plain(results.chance(column.name), column) for column in columns)])
    return _markdown(lines)


def write_changes(table: Table, results: Results) -> str:
    """Write the changes that the paper states beside ours, paired by seed, and whether the signs agree."""
    base, *others = table.rows
    lines: list[Cells] = [["change", "figure", "the paper", "ours, paired", "sign"]]
    for row in others:
        for column in COLUMNS:
            if column.name not in row.paper or column.name not in base.paper:
                continue
            theirs = round(row.paper[column.name] - base.paper[column.name], column.decimals)
            ours = results.difference(row.arm, base.arm, column.name)
            change = f"{theirs:+.{column.decimals}f}"
            lines.append([row.label, column.name, change, _show(ours, column, "+"), judge_sign(theirs, ours)])
    return _markdown(lines)


def judge_sign(theirs: float, ours: Spread | None) -> str:
    """Compare the sign of a change with the paper's.

    Args:
        theirs: the paper's change, rounded as it is shown.
        ours: our change, paired by seed.

    Returns:
        "within noise" if the 95 % interval of Student's t over seeds contains 0: with three seeds it is 4.30 standard
        errors wide on each side.
    """
    if ours is None:
        return "not run"
    if math.isnan(ours.deviation):
        return "one seed"
    if abs(ours.mean) <= find_t(ours.num_seeds) * ours.deviation / math.sqrt(ours.num_seeds):
        return "within noise"
    if theirs == 0:
        return "no change in the paper"
    return "same" if (ours.mean > 0) == (theirs > 0) else "opposite"


@cache
def find_t(num_seeds: int) -> float:
    """Return the 97.5 % quantile of Student's t for a mean of at least 2 seeds.

    Raises:
        ValueError: scipy is not installed.
    """
    with needs("eval"):
        from scipy.stats import t
    return float(t.ppf(0.975, num_seeds - 1))


def _show(spread: Spread | None, column: Column, sign: str = "", of: int | None = None) -> str:
    if spread is None:
        return ""
    text = f"{spread.mean:{sign}.{column.decimals}f}"
    if not math.isnan(spread.deviation):
        text += f" ± {spread.deviation:.{column.decimals}f}"
    return text if of in (None, spread.num_seeds) else f"{text} ({spread.num_seeds} seeds)"


def _plain(value: float | None, column: Column) -> str:
    return "" if value is None else f"{value:.{column.decimals}f}"


def _markdown(lines: Sequence[Cells]) -> str:
    head, *rest = lines
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rest)) + "\n"


def describe_runs(results: Results, num_seeds: int) -> str:
    """Say how the runs were made, and which are missing."""
    trained = [row for row in results.rows if row["steps"]]
    first = (trained or results.rows)[0]
    seconds = sum(row["train_s"] for row in results.rows)
    text = (
        f"{len(trained)} runs of {first['steps']} steps of {first['batch_size']} samples (learning rate "
        f"{first['lr']:g}), {first['items']} items of each benchmark, start `{first['start']}`, code "
        f"{', '.join(f'`{one}`' for one in sorted({str(row['commit'])[:9] for row in results.rows}))}; "
        f"{seconds / 3600:.1f} hours of training in all.\n"
    )
    if len({row["commit"] for row in results.rows}) > 1:
        text += "\nThe runs are of several revisions of the code, so that a change may mix two of them.\n"
    arms = dict.fromkeys(row.arm for table in TABLES.values() for row in table.rows)
    missing = [f"{arm}-{seed}" for seed in range(num_seeds) for arm in arms if seed not in results.seeds(arm)]
    return text + (f"\nMissing, to be resumed by the same command: {', '.join(missing)}.\n" if missing else "")


def update_page(page: Path, results: Results, num_seeds: int) -> None:
    """Write all tables into a page; one that is not there is made.

    Raises:
        ValueError: the page lacks a mark, or cannot be written.
    """
    blocks = {"runs": describe_runs(results, num_seeds)}
    for name, table in TABLES.items():
        blocks[name] = f"{write_table(table, results)}\n{write_changes(table, results)}"
    text = page.read_text(encoding="utf-8") if page.exists() else _new_page()
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not (mark and end):
            raise ValueError(f"{page}: lacks the marks <!-- {name} --> and <!-- /{name} --> around a table; add them")
        text = f"{before}{mark}{block}{end}{after}"
    write_text(page, text)


def _new_page() -> str:
    parts = ["# Ablations\n", "<!-- runs -->\n<!-- /runs -->\n"]
    for name, table in TABLES.items():
        chart = f"![{table.title}](ablations/{name}.png)"
        parts.append(f"## {table.title}\n\n<!-- {name} -->\n<!-- /{name} -->\n\n{chart}\n")
    return "\n".join(parts)
