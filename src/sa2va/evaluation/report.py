"""Report an evaluation as a table (terminal, text, Markdown) and as JSON.

Flow: runner.py -> Report -> table, to_dict, save. A report is the same for the same answers: it has no times.
"""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.table import Table

import sa2va
from sa2va.evaluation.benchmark import Benchmark, Figure, Record
from sa2va.evaluation.stamp import Run
from sa2va.files.atomic import write_text
from sa2va.terminal import in_markup

FILES = ("report.json", "report.txt", "report.md")
_WIDTH = 120  # width of the text table, in characters
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
    def of(cls, benchmark: Benchmark[Any], records: list[Record]) -> Self:
        """Compute the figures of a benchmark."""
        figures = tuple(benchmark.summarize(records))
        return cls(
            name=benchmark.name, title=benchmark.title, figures=figures, protocol=benchmark.protocol,
            scored_elsewhere=benchmark.submit is not None and not figures,
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

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "passed": self.passed,
            "run": self.run.to_dict(),
            "environment": self.environment,
            "commands": list(self.commands),
            "titles": {section.name: section.title for section in self.sections},
            "protocols": {section.name: section.protocol for section in self.sections if section.protocol},
            "benchmarks": {section.name: section.to_dict() for section in self.sections},
            "unfinished": list(self.unfinished),
        }

    def table(self) -> Table:
        """Build the table of all figures, with a heading per benchmark."""
        table = Table(title=in_markup(f"sa2va eval: {self.run.in_words()}"), title_justify="left")
        table.add_column("figure")
        for name in ("value", "95 % interval", "items", "chance", "bar"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for section in self.sections:
            table.add_section()
            table.add_row(f"[bold]{section.title}[/bold]")
            if section.scored_elsewhere:
                table.add_row("  scored by its server: submission/" + section.name.replace("/", "-") + ".zip")
            for figure in section.figures:
                name, *numbers, verdict = _cells(figure)
                color = _COLORS.get(verdict)
                table.add_row(f"  {name}", *numbers, f"[{color}]{verdict}[/{color}]" if color else verdict)
        sources = {figure.baseline for section in self.sections for figure in section.figures if figure.baseline}
        notes = [f"chance: {'; '.join(sorted(sources))}"] if sources else []
        table.caption = in_markup("\n".join([*notes, *self.unfinished]))
        table.caption_justify = "left"
        return table

    def to_text(self) -> str:
        """Format the table as plain text."""
        console = Console(width=_WIDTH, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
        console.print(self.table())
        return console.export_text()

    def to_markdown(self) -> str:
        """Format the table as Markdown, for a model card."""
        rows: list[tuple[str, ...]] = [
            ("figure", "value", "95 % interval", "items", "chance", "bar", "verdict"),
            ("---", "--:", "--:", "--:", "--:", "--:", "---"),
        ]
        rows += [
            (f"{section.title}: {name}", *rest)
            for section in self.sections
            for name, *rest in map(_cells, section.figures)
        ]
        return f"{self.run.in_words()}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)

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
        Console().print(report.table())


def _cells(figure: Figure) -> tuple[str, ...]:
    interval = "-" if figure.low is None or figure.high is None else f"{figure.low:.3f} .. {figure.high:.3f}"
    return (
        f"{figure.name} ({figure.note})" if figure.note else figure.name,
        _number(figure.value),
        interval,
        str(figure.num_items),
        _number(figure.chance),
        str(figure.bar) if figure.bar else "",
        figure.verdict,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
