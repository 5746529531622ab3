"""Define a benchmark: items, requests, scores of the answers, figures.

Flow: Selection -> catalog.py builds a Benchmark -> runner.py asks every item (Answer) -> scores every answer (Record)
    -> figures -> report.py. Scoring reads answers and ground truth alone, so it needs no model.
Shapes: N items, E rows that a figure counts.
"""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.prompts import Wording
from sa2va.inference.requests import Options, Request, check_one_of
from sa2va.inference.results import Prediction
from sa2va.inference.tracking.session import TrackSession
from sa2va.metrics.interval import Groups, Rows, Statistic, bootstrap_interval, compare_with_bar, mean
from sa2va.metrics.paired import Table
from sa2va.types import Frame, Sample

Record = dict[str, Any]  # scores of one item, as JSON values
Item = TypeVar("Item")  # a Sample, or what else a benchmark asks about


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Choice of the items of a benchmark.

    Attributes:
        split: as the dataset names it: "val", "testA", ...; of drawn scenes "dev" or "report".
        root: root of the data; None for generated items.
        limit: number of items; None = all, and for generated items the number that the benchmark has by default.
        seed: of the choice of items, or of generated ones; None = the first items in order, or the split's own seed.
        prompts: wording of the questions, where a public benchmark has one of its own.
        keyframes: which frames of a clip the model reads: "first", "uniform" or "content"; None = the benchmark's own.
        num_keyframes: how many of them; None = the benchmark's own.
    """

    split: str
    root: Path | None = None
    limit: int | None = None
    seed: int | None = None
    prompts: Wording = "ours"
    keyframes: str | None = None
    num_keyframes: int | None = None

    def __post_init__(self) -> None:
        if (self.seed is not None and self.seed < 0) or (self.limit is not None and self.limit < 1):
            raise ValueError(
                f"seed {self.seed} and limit {self.limit}: expected a seed of at least 0 and at least 1 item"
            )

    def find(self, place: str = "") -> Path:
        """Return a file or folder below the root of the data; "" is the root itself.

        Raises:
            ValueError: no root is given.
        """
        if self.root is None:
            raise ValueError("the benchmark reads files and needs the root of its data; add --data DIR")
        return self.root / place

    def set_keyframes(self, options: Options) -> Options:
        """Return the options of a benchmark with the key frames that are chosen here.

        Raises:
            ValueError: an unknown choice, or a number below 1.
        """
        chosen = {"keyframes": self.keyframes, "num_keyframes": self.num_keyframes}
        return replace(options, **{name: value for name, value in chosen.items() if value is not None})

    def choose(self, num_items: int) -> list[int]:
        """Choose items of a dataset, in its order; a larger limit with the same seed adds to a smaller one."""
        limit = num_items if self.limit is None else min(self.limit, num_items)
        if self.seed is None:
            return list(range(limit))
        return sorted(np.random.default_rng(self.seed).permutation(num_items)[:limit].tolist())


class Answers(Protocol):
    """Methods of a predictor that evaluation calls."""

    def predict_batch(self, requests: Sequence[Request], options: Options = ...) -> list[Prediction]:
        """Answer each request as `predict` does."""
        ...

    def probe_batch(self, requests: Sequence[Request], options: Options = ...) -> list[Prediction]:
        """Predict exactly one mask per request, from a fixed answer with [SEG]."""
        ...

    def track(self, source: Any) -> TrackSession:
        """Start a tracking session without objects."""
        ...


@dataclass(frozen=True)
class Bar:
    """Threshold of a figure."""

    threshold: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.threshold if self.at_most else value >= self.threshold

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.threshold:.2f}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of a report.

    Attributes:
        name: what is measured.
        value: None where no item counts.
        low: lower end of the 95 % interval.
        high: upper end of it.
        num_items: independent items that count: pictures, clips.
        chance: value of the chance baseline on the same items; None if there is no honest one.
        baseline: the baseline in words.
        bar: threshold, if any.
        note: why there is no value, if it could not be computed.
        table: what the value was computed from, for paired tests; None of a figure that was read from a file.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    num_items: int
    chance: float | None = None
    baseline: str = ""
    bar: Bar | None = None
    note: str = ""
    table: Table | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool | None:
        """Whether the bar is reached; None without a bar, False without items."""
        if self.bar is None:
            return None
        return self.value is not None and self.bar.holds(self.value)

    @property
    def verdict(self) -> str:
        """Comparison of the interval with the bar: "reached", "missed", or "about" if it contains the bar."""
        if self.bar is None:
            return ""
        if self.value is None or self.low is None or self.high is None:
            return "missed"
        return compare_with_bar(self.bar.holds, self.value, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: all but the table, with the bar as text and its verdict."""
        names = ("name", "value", "low", "high", "num_items", "chance", "baseline")
        more = {"bar": str(self.bar) if self.bar else None, "passed": self.passed, "verdict": self.verdict}
        if self.note:
            more["note"] = self.note
        return {name: getattr(self, name) for name in names} | more


@dataclass(frozen=True, kw_only=True)
class Case:
    """One item to look at: picture, true and predicted mask.

    Attributes:
        expression: what was asked.
        picture: (H, W, 3), of a clip one frame.
        truth: (H, W).
        found: (H, W), the union of the masks that count.
        text: of the answer; empty takes the texts of all answers.
    """

    expression: str
    picture: Frame
    truth: NDArray[np.bool_]
    found: NDArray[np.bool_]
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Benchmark(Generic[Item]):
    """Benchmark: items, requests, scores and figures.

    Attributes:
        name: of the report and the answers: "refcoco/val"; that of a public benchmark is given by the catalog.
        title: heading in the report.
        ids: N keys of the items, those of the dataset itself.
        load: item number -> item; a pure function that decodes nothing.
        ask: item -> requests; None with `play`.
        play: model and item -> answers, instead of `ask`: for items that need a tracking session.
        score: item and its answers, one per request -> Record; a pure function.
        summarize: all records, in order -> figures.
        protocol: prompt, masks that count and metrics, in one line as a paper would state them.
        options: of every request.
        forced: request exactly one mask, even if the model would call the object absent.
        prepare: looks at all items and answers before the first is scored, as to ask a judge about many at once.
        submit: writes the files of a server's archive into a new folder; None if no server scores.
        scored_elsewhere: only the server has the truth; figures are of the answers alone.
        show: item, its answers and its record -> case to draw in the report; None draws none.
        batch_size: items that go through the model together.
        split: of generated items; that of a dataset is part of the name.
        seed: of generated items.
        selection: how it was asked for; None if it is not from the catalog.
        on_request: run only if named, since it takes minutes.
    """

    title: str
    ids: Sequence[str]
    load: Callable[[int], Item]
    score: Callable[[Item, Sequence[Answer]], Record]
    summarize: Callable[[list[Record]], list[Figure]]
    name: str = ""
    ask: Callable[[Item], list[Request]] | None = None
    play: Callable[[Answers, Item], list[Answer]] | None = None
    protocol: str = ""
    options: Options = field(default_factory=Options)
    forced: bool = False
    prepare: Callable[[Iterable[tuple[Item, Sequence[Answer]]]], None] | None = None
    submit: Callable[[Path, Iterable[tuple[Item, Sequence[Answer]]]], None] | None = None
    scored_elsewhere: bool = False
    show: Callable[[Item, Sequence[Answer], Record], Case] | None = None
    batch_size: int = 32
    split: str = ""
    seed: int | None = None
    selection: Selection | None = None
    on_request: bool = False

    def __post_init__(self) -> None:
        check_one_of(ask=self.ask, play=self.play)
        if not self.ids or len(set(self.ids)) < len(self.ids):
            raise ValueError(f"{self.title}: {len(self.ids)} items; expected at least one, with different ids")

    def __len__(self) -> int:
        return len(self.ids)


def file_name(benchmark: str) -> str:
    """Return the name of a benchmark as that of a file or folder: "refcoco-val"."""
    return benchmark.replace("/", "-")


def ask_first(sample: Sample) -> list[Request]:
    """Return the request for the first question of a sample."""
    return ask_each(sample)[:1]


def ask_each(sample: Sample) -> list[Request]:
    """Return one request per question of a sample, without the earlier turns."""
    media = sample.frames if len(sample.frames) > 1 else sample.frames[0]  # (T, H, W, 3) or (H, W, 3)
    return [Request(media=media, prompt=turn.question, regions=list(turn.regions) or None) for turn in sample.turns]


_WITH_INTERVALS: ContextVar[bool] = ContextVar("with_intervals", default=True)


@contextmanager
def values_only() -> Generator[None]:
    """Leave out intervals, which cost most of the time, in all figures that are computed in the block."""
    token = _WITH_INTERVALS.set(False)
    try:
        yield
    finally:
        _WITH_INTERVALS.reset(token)


def measure(
    name: str,
    rows: Rows,
    statistic: Statistic = mean,
    *,
    groups: Groups | None = None,
    chance: float | None = None,
    baseline: str = "",
    bar: Bar | None = None,
) -> Figure:
    """Compute one figure with its interval; values that are not finite become None.

    Args:
        name: what is measured.
        rows: E rows.
        statistic: rows -> number.
        groups: E labels, the picture or clip of each row; None if each row has its own.
        chance: value of the baseline.
        baseline: the baseline in words.
        bar: threshold, if any.
    """
    value = low = high = None
    num_items = len(rows if groups is None else set(groups))
    if len(rows):
        value = _finite(statistic(rows))
        if value is not None and num_items > 1 and _WITH_INTERVALS.get():  # one picture tells nothing about others
            low, high = map(_finite, bootstrap_interval(rows, statistic, groups))
    else:
        chance = None  # the baseline has no items either
    return Figure(
        name=name, value=value, low=low, high=high, num_items=num_items,
        chance=_finite(chance), baseline=baseline, bar=bar, table=Table(rows, statistic, groups),
    )  # fmt: skip


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
