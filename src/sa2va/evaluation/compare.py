"""Compare two evaluations on the items that both answered: paired differences of every figure, with intervals and p.

Flow: OUT_A, OUT_B (answers, records.jsonl, report.json of runner.py) -> compare -> Comparison -> table, to_dict.
    Figures are computed again from the records of the common items, by the benchmark's own `summarize`; each resample
    draws the same pictures or clips for both sides (metrics/paired.py).
Source: Holm, 1979, for the p values of several benchmarks at once.
"""

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as TextTable

from sa2va.evaluation.benchmark import Benchmark, Figure, Record, values_only
from sa2va.evaluation.breakdown import FACTS, split_by_facts
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.runner import RECORDS
from sa2va.evaluation.stamp import Run
from sa2va.evaluation.store import AnswerStore, Asked
from sa2va.files.json_file import read_json
from sa2va.metrics.interval import Difference
from sa2va.metrics.paired import difference_test
from sa2va.terminal import in_markup

MAX_NAMED = 5  # items of one side alone that a message names


@dataclass(frozen=True)
class Change:
    """A figure of both sides and its paired difference, second minus first.

    Attributes:
        figure: its name.
        first: value of the first side; None where no item counts.
        second: value of the second side.
        difference: None if the two cannot be paired.
        reason: why not.
    """

    figure: str
    first: float | None
    second: float | None
    difference: Difference | None
    reason: str = ""

    @classmethod
    def of(cls, before: Figure, after: Figure) -> "Change":
        """Test the difference of a figure."""
        difference, reason = None, ""
        if before.value is None or after.value is None or before.table is None or after.table is None:
            reason = "one side has no value"
        else:
            try:
                difference = difference_test(before.table, after.table)
            except ValueError as error:
                reason = str(error)
            if difference is not None and not all(map(math.isfinite, difference)):
                difference, reason = None, "no resample has a value"
        return cls(before.name, before.value, after.value, difference, reason)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        found = None if self.difference is None else self.difference._asdict()
        return {"first": self.first, "second": self.second, "difference": found, "reason": self.reason}


@dataclass(frozen=True)
class PartChange:
    """The first figure of a benchmark on the items that share a fact."""

    fact: str
    value: str
    num_items: int
    change: Change


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One benchmark on both sides.

    Attributes:
        name: of the benchmark.
        num_items: items that both answered.
        only_first: ids that only the first side answered.
        only_second: likewise.
        changes: one per figure.
        parts: first figure by facts of the items.
    """

    name: str
    num_items: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changes: tuple[Change, ...]
    parts: tuple[PartChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        parts: dict[str, Any] = {}
        for one in self.parts:
            entry = {"figure": one.change.figure, "num_items": one.num_items, **one.change.to_dict()}
            parts.setdefault(one.fact, {})[one.value] = entry
        return {
            "num_items": self.num_items,
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "figures": {change.figure: change.to_dict() for change in self.changes},
            "parts": parts,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations beside each other.

    Attributes:
        first, second: what was evaluated.
        benchmarks: those of both.
        only_first, only_second: names of benchmarks that only one side has.
    """

    first: Run
    second: Run
    benchmarks: tuple[Compared, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def corrected(self) -> dict[str, float]:
        """P of the first figure of each benchmark, corrected for their number (Holm)."""
        leading = {one.name: one.changes[0].difference for one in self.benchmarks if one.changes}
        return holm({name: found.p for name, found in leading.items() if found is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "first": asdict(self.first),
            "second": asdict(self.second),
            "benchmarks": {one.name: one.to_dict() for one in self.benchmarks},
            "corrected_p": self.corrected,
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
        }

    def lines(self) -> Iterator[str]:
        """Yield a remark for everything that only one side has, and for figures that cannot be paired."""
        for side, names in (("first", self.only_first), ("second", self.only_second)):
            if names:
                yield f"only the {side} has {', '.join(names)}"
        for one in self.benchmarks:
            for side, ids in (("first", one.only_first), ("second", one.only_second)):
                if ids:
                    yield f"{one.name}: {len(ids)} items only of the {side} are left out: {name_some(ids)}"
            reasons = dict.fromkeys(change.reason for change in one.changes if change.difference is None)
            for reason in reasons:
                figures = "; ".join(change.figure for change in one.changes if change.reason == reason)
                yield f"{one.name}, no test: {reason}: {figures}"

    def table(self, parts: bool = False) -> TextTable:
        """Build the table of all differences; with `parts`, also by facts of the items."""
        lines = (f"first: {self.first.in_words()}", f"second: {self.second.in_words()}", "difference = second - first")
        table = TextTable(title="\n".join(map(in_markup, lines)), title_justify="left", caption_justify="left")
        table.add_column("figure")
        for name in ("first", "second", "difference", "95 % interval", "p", "items"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in self.benchmarks:
            table.add_section()
            table.add_row(f"[bold]{in_markup(one.name)}[/bold]")
            for change in one.changes:
                table.add_row(f"  {in_markup(change.figure)}", *_cells(change), str(one.num_items))
            for part in one.parts if parts else ():
                name = f"    {part.change.figure}, {part.fact}: {part.value}"
                table.add_row(in_markup(name), *_cells(part.change), str(part.num_items))
        if len(corrected := self.corrected) > 1:
            found = ", ".join(f"{name} {p:.3f}" for name, p in corrected.items())
            table.caption = in_markup(f"p of the first figures, corrected for {len(corrected)} benchmarks: {found}")
        return table


@dataclass(frozen=True)
class Side:
    """What a folder of an evaluation holds."""

    folder: Path
    asked: dict[str, Asked]
    records: dict[str, dict[str, Record]]  # benchmark -> item -> record
    protocols: dict[str, str]


def compare(first: Path, second: Path, *, names: Sequence[str] | None = None, root: Path | None = None) -> Comparison:
    """Compare two evaluations.

    Args:
        first: folder of `sa2va eval -o`.
        second: another one.
        names: benchmarks to compare, NAME = all its splits, NAME/SPLIT = one; None = all of both.
        root: root of the data; None = where it was.

    Raises:
        ValueError: a folder holds no scored answers, no benchmark is in both, or a benchmark was asked or scored in
            different ways.
    """
    sides = read_side(first), read_side(second)
    own, other = (list(side.records) for side in sides)
    both = [name for name in own if name in other]
    if unknown := [name for name in names or () if not any(is_named(one, [name]) for one in both)]:
        listed = ", ".join(both) or "none"
        raise ValueError(f"benchmark {unknown[0]!r}: not in both {first} and {second}; in both: {listed}")
    common = [name for name in both if names is None or is_named(name, names)]
    if not common:
        raise ValueError(f"{first} has {', '.join(own)}, {second} has {', '.join(other)}: no benchmark is in both")
    return Comparison(
        first=next(iter(sides[0].asked.values())).run,
        second=next(iter(sides[1].asked.values())).run,
        benchmarks=tuple(compare_benchmark(name, *sides, root=root) for name in common),
        only_first=tuple(name for name in own if name not in other),
        only_second=tuple(name for name in other if name not in own),
    )


def is_named(benchmark: str, names: Sequence[str]) -> bool:
    """Return whether a benchmark, or the family whose split it is, is among the names."""
    return benchmark in names or benchmark.rpartition("/")[0] in names


def read_side(folder: Path) -> Side:
    """Read what an evaluation stored.

    Raises:
        ValueError: the folder holds no answers, or they are not scored.
    """
    with AnswerStore(folder) as store:
        asked = {one.benchmark: one for one in store.asked()}
    path, report, repair = folder / RECORDS, folder / "report.json", shlex.join(["sa2va", "score", str(folder)])
    if not (path.is_file() and report.is_file()):
        raise ValueError(f"{folder}: its answers are not scored; run {repair}")
    records: dict[str, dict[str, Record]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                records.setdefault(entry["benchmark"], {})[entry["item"]] = entry["record"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: is no record of an item; run {repair}") from error
    protocols = read_json(report).get("protocols", {})
    return Side(folder, asked, {name: found for name, found in records.items() if name in asked}, protocols)


def compare_benchmark(name: str, first: Side, second: Side, *, root: Path | None = None) -> Compared:
    """Compare the records of one benchmark.

    Raises:
        ValueError: it was asked or scored in different ways, no item is common, or its data is not there.
    """
    require_same_protocol(name, first, second)
    benchmark = rebuild(name, first.asked[name].selection, root)
    before, after = first.records[name], second.records[name]
    common = [item for item in before if item in after]
    if not common:
        raise ValueError(f"{name}: {first.folder} and {second.folder} have no item in common")
    require_same_questions(benchmark, first, second, common)
    pair = [before[item] for item in common], [after[item] for item in common]
    changes = change_figures(benchmark, *pair)
    parts = []
    same = [one if one.get(FACTS) == two.get(FACTS) else {} for one, two in zip(*pair, strict=True)]
    for part in split_by_facts(same):
        chosen = ([records[index] for index in part.indices] for records in pair)
        parts.append(
            PartChange(part.fact, part.value, len(part.indices), change_figures(benchmark, *chosen, most=1)[0])
        )
    return Compared(
        name=name,
        num_items=len(common),
        only_first=tuple(item for item in before if item not in after),
        only_second=tuple(item for item in after if item not in before),
        changes=changes,
        parts=tuple(parts),
    )


def change_figures(
    benchmark: Benchmark[Any], before: list[Record], after: list[Record], most: int | None = None
) -> tuple[Change, ...]:
    """Test the differences of the figures that both sides have, or of the first `most` of them."""
    with values_only():
        later = {figure.name: figure for figure in benchmark.summarize(after)}
        figures = [figure for figure in benchmark.summarize(before) if figure.name in later]
    return tuple(Change.of(figure, later[figure.name]) for figure in figures[:most])


def require_same_protocol(name: str, first: Side, second: Side) -> None:
    """Raise ValueError if a benchmark was asked or scored in different ways."""
    way, other = (side.protocols.get(name, "") for side in (first, second))
    if way != other:
        raise ValueError(f"{name}: protocols differ, {first.folder} has {way!r} and {second.folder} has {other!r}")
    chosen, another = (side.asked[name].selection for side in (first, second))
    if chosen.root is None and (chosen.split, chosen.seed) != (another.split, another.seed):
        raise ValueError(
            f"{name}: items differ, {first.folder} has split {chosen.split}, seed {chosen.seed} and {second.folder} "
            f"split {another.split}, seed {another.seed}"
        )


def require_same_questions(benchmark: Benchmark[Any], first: Side, second: Side, items: Sequence[str]) -> None:
    """Raise ValueError if an item was asked in different words."""
    name = benchmark.name
    with AnswerStore(first.folder) as store, AnswerStore(second.folder) as other:
        for item in items:
            asked = store.get(first.asked[name].run.key(benchmark, item))
            again = other.get(second.asked[name].run.key(benchmark, item))
            if asked is not None and again is not None and asked["prompts"] != again["prompts"]:
                raise ValueError(
                    f"{name}: prompts differ, item {item} was asked {asked['prompts']!r:.80} in {first.folder} and "
                    f"{again['prompts']!r:.80} in {second.folder}"
                )


def holm(values: dict[str, float]) -> dict[str, float]:
    """Correct p values of several tests (Holm's step-down method)."""
    corrected, least = {}, 0.0
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(values) - rank) * p))
        corrected[name] = least
    return {name: corrected[name] for name in values}


def name_some(ids: Sequence[str]) -> str:
    """Name the first ids, and count the others."""
    rest = len(ids) - MAX_NAMED
    return ", ".join(ids[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _cells(change: Change) -> tuple[str, ...]:
    values = ["-" if value is None else f"{value:.3f}" for value in (change.first, change.second)]
    if change.difference is None:
        return (*values, "-", "-", "-")
    value, low, high, p = change.difference
    return (*values, f"{value:+.3f}", f"{low:+.3f} .. {high:+.3f}", f"{p:.3f}")
