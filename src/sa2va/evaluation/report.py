"""Report an evaluation as a table (terminal, text, Markdown) and as JSON.

Flow: runner.py -> Report -> table, to_dict, save. A report is the same for the same answers: it has no times.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.table import Table

import sa2va
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, file_name
from sa2va.evaluation.overlap import unseen_figures
from sa2va.evaluation.published import Published, find_published
from sa2va.evaluation.stamp import Run
from sa2va.files.atomic import write_text
from sa2va.terminal import in_markup

FILES = ("report.json", "report.txt", "report.md")
MISSING = "missing"  # a value that could not be computed
_WIDTH = 120  # width of the text table, in characters
_LONGEST_WORD = len("Ref-YouTube-VOS")  # of a title
BARS = ("bar", "verdict")  # columns
WORDS = ("benchmark", "figure", "verdict")  # columns
_COLORS = {"reached": "green", "about": "yellow", "missed": "red"}


def describe_environment() -> dict[str, Any]:
    """Describe the machine of an evaluation."""
    return {
        "sa2va": sa2va.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


@dataclass(frozen=True, kw_only=True)
class Section:
    """The figures of one benchmark."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    protocol: str = ""
    scored_elsewhere: bool = False  # its truth is on a server, which takes the archive in submission/

    @classmethod
    def of(cls, benchmark: Benchmark[Any], records: list[Record], seen: frozenset[int] = frozenset()) -> Self:
        """Compute the figures of a benchmark, and those without the COCO pictures in `seen` if there are any."""
        figures = tuple(benchmark.summarize(records))
        if seen:
            figures += tuple(unseen_figures(benchmark, records, seen))
        return cls(
            name=benchmark.name, title=benchmark.title, figures=figures, protocol=benchmark.protocol,
            scored_elsewhere=benchmark.scored_elsewhere,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, as JSON values."""
        found = {}
        for figure in self.figures:
            values = figure.to_dict()
            found[values.pop("name")] = values
        return found


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of an evaluation, with its run and environment."""

    sections: tuple[Section, ...]
    run: Run
    environment: dict[str, Any]
    unfinished: tuple[str, ...] = ()  # a line per benchmark without figures, because items have no answers yet
    commands: tuple[str, ...] = ()  # that repeat the evaluation

    @property
    def passed(self) -> bool:
        """Whether every bar is reached."""
        return all(figure.passed is not False for section in self.sections for figure in section.figures)

    @cached_property
    def published(self) -> dict[tuple[str, str], Published]:
        """Published values of the model, by benchmark and figure of this report; none with an adapter."""
        own = {(section.name, figure.name) for section in self.sections for figure in section.figures}
        found = [] if self.run.adapter else find_published(self.run.model, consistent=self.run.sam is not None)
        return {(one.benchmark, one.figure): one for one in reversed(found) if (one.benchmark, one.figure) in own}

    @property
    def notes(self) -> list[str]:
        """Lines below the table: the baselines, who published the values, and why figures are missing."""
        baselines = {figure.baseline for section in self.sections for figure in section.figures if figure.baseline}
        sources = {f"{one.model}, {one.source}" for one in self.published.values()}
        reasons = {figure.note for section in self.sections for figure in section.figures if figure.note}
        named = {"chance": baselines, "published": sources, MISSING: reasons}
        return [f"{name}: {'; '.join(sorted(texts))}" for name, texts in named.items() if texts]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        published: dict[str, Any] = {}
        for one in self.published.values():
            published.setdefault(one.benchmark, {})[one.figure] = {"value": one.value, "source": one.source}
        return {
            "passed": self.passed,
            "run": self.run.to_dict(),
            "environment": self.environment,
            "commands": list(self.commands),
            "titles": {section.name: section.title for section in self.sections},
            "protocols": {section.name: section.protocol for section in self.sections if section.protocol},
            "benchmarks": {section.name: section.to_dict() for section in self.sections},
            "published": published,
            "unfinished": list(self.unfinished),
        }

    def table(self) -> Table:
        """Build the table of all figures, with a heading per benchmark."""
        table = Table(title=in_markup(f"sa2va eval: {self.run.in_words()}"), title_justify="left")
        table.add_column("figure")
        for name in self.columns[1:]:
            is_verdict = name == "verdict"
            table.add_column("" if is_verdict else name, justify="left" if is_verdict else "right", no_wrap=True)
        for section in self.sections:
            table.add_section()
            table.add_row(f"[bold]{in_markup(section.title)}[/bold]")
            if section.scored_elsewhere:
                table.add_row(f"  scored by its server: submission/{file_name(section.name)}.zip")
            for figure in section.figures:
                name, *numbers = self.cells(section, figure)
                table.add_row(f"  {in_markup(name)}", *(_in_color(text) for text in numbers))
        table.caption = "\n".join(map(in_markup, [*self.notes, *self.unfinished]))
        table.caption_justify = "left"
        return table

    def summary(self) -> list[tuple[str, ...]]:
        """Return the head and the rows of a table of the first figure of every benchmark, the one that papers quote."""
        shown = [name for name in self.columns if name not in BARS]
        rows = [("benchmark", *shown)]
        for section in self.sections:
            rows += [(section.title, *self.cells(section, one)[: len(shown)]) for one in section.figures[:1]]
        return rows

    def to_text(self) -> str:
        """Format both tables as plain text."""
        console = Console(width=_WIDTH, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
        for table in self.tables():
            console.print(table)
        return console.export_text()

    def tables(self) -> list[Table]:
        """Return the table of all figures, and the summary if there are several benchmarks."""
        if len(self.sections) < 2:
            return [self.table()]
        head, *rows = self.summary()
        table = Table(title="One figure of each benchmark", title_justify="left")
        for name in head:
            is_text = name in WORDS
            width = _LONGEST_WORD if name == "benchmark" else None
            table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text, min_width=width)
        for row in rows:
            table.add_row(*map(in_markup, row))
        return [self.table(), table]

    def to_markdown(self) -> str:
        """Format the table as Markdown, for a model card."""
        rows = [self.columns]
        for section in self.sections:
            for figure in section.figures:
                name, *rest = self.cells(section, figure)
                rows.append((f"{section.title}: {name}", *rest))
        several = [self.summary(), rows] if len(self.sections) > 1 else [rows]
        return "\n".join([f"{self.run.in_words()}\n", *map(_markdown, several)])

    @property
    def columns(self) -> tuple[str, ...]:
        """Heads of the columns."""
        published = ("published",) if self.published else ()
        return ("figure", "value", "95 % interval", "items", "chance", *published, *(BARS if self.has_bars else ()))

    @property
    def has_bars(self) -> bool:
        """Whether any figure has a threshold."""
        return any(figure.bar is not None for section in self.sections for figure in section.figures)

    def cells(self, section: Section, figure: Figure) -> tuple[str, ...]:
        """Return the texts of a figure, one per column."""
        interval = "-" if figure.low is None or figure.high is None else f"{figure.low:.3f} .. {figure.high:.3f}"
        known = self.published.get((section.name, figure.name))
        published = (_number(None if known is None else known.value),) if self.published else ()
        value = MISSING if figure.note else _number(figure.value)
        numbers = (value, interval, str(figure.num_items), _number(figure.chance), *published)
        bar = (str(figure.bar) if figure.bar else "", figure.verdict) if self.has_bars else ()
        return (figure.name, *numbers, *bar)

    def save(self, folder: Path) -> None:
        """Write the report as JSON, text and Markdown; each file atomically."""
        for name, text in zip(FILES, (self.to_json(), self.to_text(), self.to_markdown()), strict=True):
            write_text(folder / name, text)

    def to_json(self) -> str:
        """Format the report as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def show(report: Report, *, as_json: bool = False) -> None:
    """Print a report on standard output."""
    if as_json:
        print(report.to_json())
    else:
        for table in report.tables():
            Console().print(table)


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Format rows, the first of which is the head, as a Markdown table."""
    line = tuple("---" if name in WORDS else "--:" for name in rows[0])
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], line, *rows[1:]))


def _in_color(text: str) -> str:
    color = _COLORS.get(text)
    return f"[{color}]{text}[/{color}]" if color else text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
