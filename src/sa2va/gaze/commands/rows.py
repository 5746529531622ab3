"""Select the baselines of a gaze table; print and write its page.

Flow: choose_baselines -> gaze/evaluation/ -> a page in Markdown -> print_page, write_page; shared by eval.py and
    simulated.py.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va.files.atomic import write_text
from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.terminal import in_markup

if TYPE_CHECKING:
    from sa2va.gaze.baselines.base import Baseline

PAGE = Claim((r"report\.json", r"table\.md"))
WIDE = 280  # columns if standard output is not a terminal


def choose_baselines(*, oracle: bool, learned: bool) -> "list[Callable[[], Baseline]]":
    """Return factories of the baselines and references of the table, from most to least informed."""
    from sa2va.gaze.baselines import image_blind as baselines
    from sa2va.gaze.baselines.mixture import references

    ladder: list[Callable[[], Baseline]] = [
        lambda number=number: references()[number]
        for number, reference in enumerate(references())
        if oracle or not reference.target
    ]
    plain = [
        baselines.StraightLine,
        baselines.OtherImageBaseline,
        baselines.SaccadeWalk,
        baselines.CenterBaseline,
        baselines.RandomBaseline,
    ]
    return [*(learned_baselines() if learned and oracle else []), *ladder[::-1], *plain]


def learned_baselines() -> "list[Callable[[], Baseline]]":
    """Return the trained baselines, given the target: our event decoder and the two rebuilt published ones."""
    from sa2va.gaze.baselines.event_decoder import EventBaseline
    from sa2va.gaze.baselines.slots import ART, SCANVLA, SlotBaseline

    return [EventBaseline, lambda: SlotBaseline(ART), lambda: SlotBaseline(SCANVLA)]


def print_page(page: str) -> None:
    """Print a Markdown page: tables formatted for the terminal, other text unchanged."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
    for part in page.strip().split("\n\n"):
        lines = part.splitlines()
        if lines[0].startswith("|"):
            head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
            table = Table(head[0], box=None, pad_edge=False)
            for title in head[1:]:
                table.add_column(title, justify="right")
            for row in rows:
                table.add_row(*map(in_markup, row))
            console.print(table)
        else:
            console.print("\n".join(map(in_markup, lines)), highlight=False)
        console.print()


def write_page(folder: Path, record: Mapping[str, Any], page: str) -> list[Path]:
    """Write report.json and table.md atomically; files not written by this program are not overwritten."""
    with staged(folder, PAGE) as scratch:
        assert scratch is not None
        write_text(scratch / "report.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
        write_text(scratch / "table.md", page)
    return [folder / "report.json", folder / "table.md"]
