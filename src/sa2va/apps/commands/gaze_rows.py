"""Choose the systems of a table of gaze, and print its rows.

Flow: choose_rivals -> gaze/evaluation/ -> Rows -> show_rows; shared by gaze_eval.py and gaze_world.py.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from sa2va.gaze.evaluation.scores import Case
    from sa2va.gaze.evaluation.table import Row
    from sa2va.gaze.rivals.base import Rival


def choose_rivals(*, oracle: bool, learned: bool) -> "list[Callable[[], Rival]]":
    """Those of the table, from what knows most to what knows least; people's own row is no rival."""
    from sa2va.gaze.rivals import baselines
    from sa2va.gaze.rivals.mixture import references

    ladder: list[Callable[[], Rival]] = [
        lambda number=number: references()[number]
        for number, reference in enumerate(references())
        if oracle or not reference.target
    ]
    plain = [
        baselines.StraightLine,
        baselines.ElsewhereLook,
        baselines.SaccadeWalk,
        baselines.CenterLook,
        baselines.RandomLook,
    ]
    return [*(learned_rivals() if learned and oracle else []), *ladder[::-1], *plain]


def learned_rivals() -> "list[Callable[[], Rival]]":
    """Our decoder and the two published ones; all are told the target."""
    from sa2va.gaze.rivals.ours import EventLook
    from sa2va.gaze.rivals.slots import ART, SCANVLA, SlotLook

    return [EventLook, lambda: SlotLook(ART), lambda: SlotLook(SCANVLA)]


def show_rows(rows: "Sequence[Row]", cases: "Sequence[Case]") -> None:
    from rich.console import Console

    from sa2va.gaze.evaluation.table import REFERENCE

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 280)
    console.print(row_table(rows, partial=any(row.num_cases < len(cases) for row in rows)))
    num_people = sum(len(case.people) for case in cases)
    console.print(
        f"{len(cases)} cases, {num_people} scanpaths. bits: above a uniform density; above ref: above "
        f"{REFERENCE!r}. size NLL: nats per word; where a system gives none, counted from its samples. --json has more."
    )


def row_table(rows: "Sequence[Row]", *, partial: bool) -> "Table":
    """Lay rows out for the terminal; partial shows how many cases each was scored on."""
    from rich.table import Table

    from sa2va.gaze.evaluation.table import COLUMNS

    table = Table("system", box=None, pad_edge=False)
    for title in [*["cases"] * partial, *(column.title for column in COLUMNS)]:
        table.add_column(title, justify="right")
    for row in rows:
        values = [row.figures.get(column.key, math.nan) for column in COLUMNS]
        cells = [
            "-" if math.isnan(value) else format(value, column.style)
            for value, column in zip(values, COLUMNS, strict=True)
        ]
        table.add_row(row.name, *[str(row.num_cases)] * partial, *cells)
    return table
