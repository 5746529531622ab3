"""Write an evaluation as one self-contained HTML page: figures, breakdowns, charts, and cases to look at.

Flow: runner.py: report and records and answers of each benchmark (Detail) -> render_page -> OUT/report.html.
    A benchmark shows what its records carry: "score", "facts", "curve", "scores" and "ious", "presence" and "present".
Shapes: E items, H W picture.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from sa2va.draw import charts
from sa2va.draw.overlay import FOUND, TRUTH, color_of, draw_answer
from sa2va.draw.page import document, paragraphs, picture_to_uri
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Case, Figure, Record
from sa2va.evaluation.breakdown import break_down
from sa2va.evaluation.report import MISSING, Report, Section
from sa2va.masks import resize_mask
from sa2va.metrics.calibration import calibration_bins, ece, risk_coverage
from sa2va.metrics.text import plain_text
from sa2va.types import Frame

NUM_WORST, NUM_BEST = 6, 3  # cases of a benchmark
CASE_SIDE = 400  # px, longer side of a drawn case
CASE_TINT = 0.15  # of its masks, so that colors stay what the expression says
NUM_TIMES = 64  # places of the mean curve over time

STYLE = (
    """
a { color: var(--blue); }
.wide { overflow-x: auto; margin: 0 0 20px; } .wide table { min-width: 560px; }
td, th { vertical-align: middle; } td.number, th.number { text-align: right; white-space: nowrap; }
.task td { font-weight: 600; padding-top: 18px; }
.protocol { color: var(--soft); max-width: 90ch; margin: 0 0 16px; }
.charts { display: grid; gap: 20px; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); }
.charts article { padding: 16px 18px; } details { margin: 20px 0; } summary { cursor: pointer; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: 14px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; } h3 { margin-top: 24px; }
article h3 { margin: 0 0 8px; } .said { margin: 0; font-size: 14px; color: var(--soft); overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 4px 0 12px; }
.wall { margin-top: 12px; }
@media (max-width: 600px) { main { padding: 24px 14px; } h1 { font-size: 28px; } h2 { margin-top: 40px; }
  th, td { padding: 7px 8px; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 8px; } }
"""
    + charts.CHART_STYLE
)

LEGEND = (
    "<p class='said'>"
    + "".join(
        f"<span class='swatch' style='background: rgb{color_of(index)}'></span>{name}"
        for index, name in ((TRUTH, "true mask"), (FOUND, "predicted mask"))
    )
    + "</p>"
)


@dataclass(frozen=True)
class Detail:
    """What the page shows of a benchmark besides its figures."""

    benchmark: Benchmark[Any]
    records: Sequence[Record]
    answers: Callable[[int], Sequence[Answer]]  # item number -> its answers


def render_page(report: Report, details: Sequence[Detail]) -> str:
    """Return the whole page as HTML; every text in it is escaped."""
    found = {detail.benchmark.name: detail for detail in details}
    title = f"Evaluation of {report.run.model}"
    sections = "".join(render_section(report, one, found.get(one.name)) for one in report.sections)
    body = (
        f"<h1>{escape(title)}</h1>\n{paragraphs([report.run.in_words()], 'lead')}\n{render_figures(report)}\n"
        f"{paragraphs([*report.notes, *report.unfinished], 'protocol')}\n{sections}"
        f"<footer><h2>Run and environment</h2>{render_stamp(report)}</footer>\n"
    )
    return document(title, body, STYLE)


def render_figures(report: Report, sections: Sequence[Section] | None = None) -> str:
    """Return the table of all figures of sections; None = of the first figure of each, with a link to its section."""
    published = report.published
    names = ["figure", "value", "95 % interval", "", "items", "chance", *(["published"] if published else [])]
    rows = [_row(names, "th")]
    for section in report.sections if sections is None else sections:
        link = f"<a href='#{escape(section.name, quote=True)}'>{escape(section.title)}</a>"
        for figure in section.figures[:1] if sections is None else section.figures:
            title = escape(figure.name)
            name = f"{link}<br>{title}" if sections is None else title
            value = MISSING if figure.note else _number(figure.value)
            cells = [name, value, *_interval(figure), str(figure.num_items), _number(figure.chance)]
            if published:
                known = published.get((section.name, figure.name))
                cells.append(_number(None if known is None else known.value))
            rows.append(_row(cells))
        if section.scored_elsewhere:
            note = f"{link}: scored by its server from the archive in submission/"
            rows.append(f"<tr><td colspan='{len(names)}'>{note}</td></tr>")
    return f"<div class='wide'><table>{''.join(rows)}</table></div>"


def _row(cells: Sequence[str], kind: str = "td") -> str:
    parts = (f"<{kind}{'' if place in (0, 3) else ' class=number'}>{cell}</{kind}>" for place, cell in enumerate(cells))
    return f"<tr>{''.join(parts)}</tr>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(figure: Figure) -> tuple[str, str]:
    """Return the interval in numbers, and drawn if the figure is a share."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "", ""
    text = f"{_number(figure.low)} to {_number(figure.high)}"
    is_share = 0 <= figure.low and figure.high <= 1
    return text, charts.interval(figure.value, figure.low, figure.high) if is_share else ""


def render_section(report: Report, section: Section, detail: Detail | None) -> str:
    """Return the part of the page about one benchmark."""
    head = f"<section id='{escape(section.name, quote=True)}'><h2>{escape(section.title)}</h2>\n"
    head += paragraphs([section.protocol] if section.protocol else [], "protocol") + render_figures(report, [section])
    if detail is None or not detail.records:
        return f"{head}</section>\n"
    drawn = "".join(f"<article><h3>{escape(name)}</h3>{svg}</article>" for name, svg in draw_charts(detail.records))
    wall = f"<div class='charts'>{drawn}</div>" if drawn else ""
    return f"{head}{wall}{render_parts(detail)}{render_cases(detail)}</section>\n"


def draw_charts(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield title and SVG of each chart that the records allow."""
    scores = [record["score"] for record in records if record.get("score") is not None]
    if scores:
        yield f"Score of {len(scores)} items, mean {np.mean(scores):.3f}", charts.histogram(scores, "score")
    curves = [record["curve"] for record in records if len(record.get("curve", ())) > 1]
    if curves:
        times = np.linspace(0, 1, NUM_TIMES)
        table = np.stack([np.interp(times, np.linspace(0, 1, len(curve)), curve) for curve in curves])
        low, high = np.quantile(table, [0.25, 0.75], axis=0)
        title = f"J&F over time: mean and quartiles of {len(curves)} items"
        yield title, charts.band(table.mean(0), low, high, "time in the clip", "J&F")
    pairs = [
        pair for record in records if "ious" in record for pair in zip(*_of(record, "scores", "ious"), strict=True)
    ]
    if pairs:
        expected, reached = np.array(pairs, float).T
        yield (
            f"Calibration of the expected IoU, error {ece(expected, reached):.3f}",
            _reliability(expected, reached, "expected IoU", "reached IoU"),
        )
        coverage, risk = risk_coverage(expected, reached)
        if len(coverage) > 1:
            yield "Risk of the masks that are kept", charts.line(coverage, risk, "coverage", "1 - IoU")
    there = [_of(record, "presence", "present") for record in records if "presence" in record and "present" in record]
    if there and len({bool(present) for _, present in there}) == 2:
        presence, present = np.array(there, float).T
        yield (
            f"Calibration of the presence, error {ece(presence, present):.3f}",
            _reliability(presence, present, "presence", "share that is there"),
        )


def _of(record: Record, *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def _reliability(confidences: Any, outcomes: Any, x_name: str, y_name: str) -> str:
    counts, summed, reached = calibration_bins(confidences, outcomes)
    divisor = np.maximum(counts, 1)
    return charts.reliability(counts, summed / divisor, reached / divisor, x_name, y_name)


def render_parts(detail: Detail) -> str:
    """Return a table of the first figure by facts of the items."""
    text, name = "", ""
    for fact, group in groupby(break_down(detail.benchmark, detail.records), key=lambda found: found[0].fact):
        text += f"<tr class='task'><td colspan='5'>{escape(fact)}</td></tr>"
        for part, figure in group:
            name, number = figure.name, str(len(part.indices))
            text += _row([escape(part.value), _number(figure.value), *_interval(figure), number])
    if not text:
        return ""
    table = f"<table>{_row(['items', escape(name), '95 % interval', '', 'number'], 'th')}{text}</table>"
    return f"<details open><summary>By facts of the items</summary><div class='wide'>{table}</div></details>"


# ---- cases


def choose_cases(records: Sequence[Record]) -> tuple[list[int], list[int]]:
    """Choose the items of lowest and of highest score, each of another picture or clip."""
    scored = [index for index, record in enumerate(records) if record.get("score") is not None]
    order = sorted(scored, key=lambda index: records[index]["score"])
    worst = _of_different_groups(order, records, NUM_WORST)
    best = _of_different_groups([index for index in reversed(order) if index not in worst], records, NUM_BEST)
    return worst, best


def _of_different_groups(order: Sequence[int], records: Sequence[Record], number: int) -> list[int]:
    first: dict[Any, int] = {}
    for index in order:
        first.setdefault(records[index].get("group", index), index)
    return list(first.values())[:number]


def render_cases(detail: Detail) -> str:
    """Return the items of lowest and highest score, drawn."""
    if detail.benchmark.show is None:
        return ""
    text = ""
    for title, chosen in zip(("Lowest scores", "Highest scores"), choose_cases(detail.records), strict=True):
        cards = "".join(render_case(detail, index) for index in chosen)
        text += f"<h3>{title}</h3><div class='wall'>{cards}</div>" if cards else ""
    return f"{LEGEND}{text}" if text else ""


def render_case(detail: Detail, index: int) -> str:
    """Return one card: picture with both masks, expression, score, answer."""
    benchmark, record, answers = detail.benchmark, detail.records[index], detail.answers(index)
    assert benchmark.show is not None
    try:
        case = benchmark.show(benchmark.load(index), answers, record)
    except (OSError, ValueError) as error:  # scoring needs no pictures, which may be gone
        return f"<article><div class='text'><p class='said'>{escape(str(error))}</p></div></article>\n"
    picture = f"<img alt='{escape(case.expression, quote=True)}' src='{picture_to_uri(draw_case(case))}'>"
    said = plain_text(case.text or " / ".join(answer.text for answer in answers))
    return (
        f"<article>{picture}<div class='text'><h3>{record['score']:.3f} &middot; {escape(benchmark.ids[index])}</h3>"
        f"<p class='ask'>{escape(case.expression)}</p><p class='said'>{escape(said[:200])}</p></div></article>\n"
    )


def draw_case(case: Case) -> Frame:
    """Draw both masks over the picture, its longer side reduced to CASE_SIDE; a small one is enlarged without blur."""
    scale = CASE_SIDE / max(case.picture.shape[:2])
    kind = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    height, width = (max(1, round(side * (scale if scale < 1 else int(scale)))) for side in case.picture.shape[:2])
    picture = np.array(Image.fromarray(case.picture).resize((width, height), kind))
    return draw_answer(picture, *(resize_mask(mask, height, width) for mask in (case.truth, case.found)), CASE_TINT)


# ---- stamp


def render_stamp(report: Report) -> str:
    """Return what the figures depend on: checkpoint, code, libraries, machine, commands."""
    values: dict[str, Any] = {**report.run.to_dict(), **report.environment}
    libraries = values.pop("libraries", {})
    values["libraries"] = ", ".join(f"{name} {number}" for name, number in libraries.items())
    lines = "".join(
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in values.items()
        if value not in (None, "")
    )
    commands = "".join(f"<dt>command</dt><dd><code>{escape(line)}</code></dd>" for line in report.commands)
    return f"<dl>{commands}{lines}</dl>"
