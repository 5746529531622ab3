"""Render the demo as one self-contained HTML file: no network, no second file.

Flow: list[Exhibit], list[Row] -> render_page -> text of index.html; pictures and clips are embedded.
Shapes: H W picture.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va.draw.page import document, paragraphs, picture_to_uri
from sa2va.evaluation.benchmark import Figure

STYLE = """
.ask { margin: 8px 0 2px; color: var(--soft); }
.ask::before { content: "\\203A  "; color: var(--blue); }
.say { margin: 0 0 4px; font-weight: 550; }
.expected { margin: 0; font-size: 14px; color: var(--soft); }
.right, .wrong { font-size: 12px; font-weight: 600; padding: 1px 7px; border-radius: 9px; border: 1px solid; }
.right { color: var(--green); } .wrong { color: var(--red); }
.task td { font-weight: 600; padding-top: 18px; }
"""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Question, answer of the model, and expected answer."""

    question: str
    answer: str
    expected: str | None = None  # None without ground truth, as for a user's own photo
    right: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Picture or clip, with questions and answers about it."""

    section: str
    title: str
    exchanges: tuple[Exchange, ...] = ()
    picture: NDArray[np.uint8] | None = None  # (H, W, 3)
    clip: Path | None = None  # an MP4
    notes: tuple[str, ...] = ()  # a line per mask: phrase, presence, expected and actual IoU


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table of figures."""

    task: str
    figure: Figure
    card: float | None = None  # value on the model card


@dataclass(frozen=True, kw_only=True)
class Page:
    """Content of the page."""

    title: str
    introduction: Sequence[str]
    exhibits: Sequence[Exhibit]
    rows: Sequence[Row] = ()
    footer: Sequence[str] = ()


def render_page(page: Page) -> str:
    """Return the whole page as HTML; every text in it is escaped."""
    sections = [
        f"<h2>{escape(section)}</h2>\n<div class='wall'>{''.join(map(render_exhibit, exhibits))}</div>"
        for section, exhibits in groupby(page.exhibits, key=lambda exhibit: exhibit.section)
    ]
    figures = f"<h2>Measured just now</h2>\n{render_rows(page.rows)}" if page.rows else ""
    body = (
        f"<h1>{escape(page.title)}</h1>\n{paragraphs(page.introduction, 'lead')}\n"
        + "\n".join(sections)
        + f"\n{figures}\n<footer>{paragraphs(page.footer)}</footer>\n"
    )
    return document(page.title, body, STYLE)


def render_exhibit(exhibit: Exhibit) -> str:
    """Return one card: the picture or clip, the conversation, a line per mask."""
    view = ""
    if exhibit.picture is not None:
        view = f"<img alt='{escape(exhibit.title)}' src='{picture_to_uri(exhibit.picture)}'>"
    if exhibit.clip is not None:
        data = b64encode(exhibit.clip.read_bytes()).decode()
        view = f"<video autoplay loop muted playsinline controls src='data:video/mp4;base64,{data}'></video>"
    talk = "".join(render_exchange(exchange) for exchange in exhibit.exchanges)
    notes = "".join(f"<li>{escape(note)}</li>" for note in exhibit.notes)
    notes = f"<ul>{notes}</ul>" if notes else ""
    return f"<article>{view}<div class='text'><h3>{escape(exhibit.title)}</h3>{talk}{notes}</div></article>\n"


def render_exchange(exchange: Exchange) -> str:
    mark = {None: "", True: " <span class='right'>right</span>", False: " <span class='wrong'>wrong</span>"}
    text = f"<p class='ask'>{escape(exchange.question)}</p><p class='say'>{escape(exchange.answer)}"
    text += f"{mark[exchange.right]}</p>"
    if exchange.expected is not None and not exchange.right:
        text += f"<p class='expected'>expected: {escape(exchange.expected)}</p>"
    return text


def render_rows(rows: Sequence[Row]) -> str:
    """Return the table of figures, grouped by task."""
    names = ("figure", "here", "95 % interval", "card", "chance", "items")
    text = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    for task, group in groupby(rows, key=lambda row: row.task):
        text += f"<tr class='task'><td colspan='{len(names)}'>{escape(task)}</td></tr>"
        text += "".join(render_row(row) for row in group)
    return f"<table>{text}</table>"


def render_row(row: Row) -> str:
    figure = row.figure
    value = format_number(figure.value)
    if figure.value is not None:
        value += f"<span class='bar' style='--share:{min(max(figure.value, 0.0), 1.0):.3f}'></span>"
    interval = f"{format_number(figure.low)} to {format_number(figure.high)}" if figure.low is not None else ""
    cells = [escape(figure.name), value, interval, format_number(row.card), format_number(figure.chance)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in [*cells, str(figure.num_items)]) + "</tr>"


def format_number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
