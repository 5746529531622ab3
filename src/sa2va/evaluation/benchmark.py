"""Define a benchmark: items, requests, scores of the answers, figures.

Flow: catalog.py builds a Benchmark -> runner.py loads, asks and scores item by item -> Record -> figures -> report.py.
Shapes: N items, E rows that a figure counts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va.inference.requests import Options, Request
from sa2va.inference.results import Prediction
from sa2va.inference.tracking.session import TrackSession
from sa2va.metrics.interval import Groups, Rows, bootstrap_interval, compare_with_bar
from sa2va.types import Sample

Record = dict[str, Any]  # scores of one item, as JSON values


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
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    num_items: int
    chance: float | None = None
    baseline: str = ""
    bar: Bar | None = None

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


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Benchmark: items, requests, scores and figures.

    Attributes:
        name: key in the catalog.
        title: heading in the report.
        num_items: N.
        load: item number -> Sample; a pure function.
        ask: Sample -> requests.
        score: Sample and its predictions, one per request -> Record.
        summarize: all records, in order -> figures.
        options: of every request.
        forced: request exactly one mask, even if the model would call the object absent.
        batch_size: items that go through the model together.
        seed: of its items, where they are generated.
    """

    name: str
    title: str
    num_items: int
    load: Callable[[int], Sample]
    ask: Callable[[Sample], list[Request]]
    score: Callable[[Sample, list[Prediction]], Record]
    summarize: Callable[[list[Record]], list[Figure]]
    options: Options = field(default_factory=Options)
    forced: bool = False
    batch_size: int = 32
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class LiveBenchmark:
    """Benchmark of clips too long for memory, streamed frame by frame to a tracking session.

    Attributes:
        name: key in the catalog.
        title: heading in the report.
        num_items: N.
        play: predictor and item number -> Record; a pure function.
        summarize: all records, in order -> figures.
        batch_size: items between two writes of the journal.
        seed: of its items, where they are generated.
        on_request: run only if named, since it takes minutes.
    """

    name: str
    title: str
    num_items: int
    play: Callable[[Answers, int], Record]
    summarize: Callable[[list[Record]], list[Figure]]
    batch_size: int = 1
    seed: int | None = None
    on_request: bool = False


def ask_first(sample: Sample) -> list[Request]:
    """Return the request for the first question of a sample."""
    return ask_each(sample)[:1]


def ask_each(sample: Sample) -> list[Request]:
    """Return one request per question of a sample, without the earlier turns."""
    media = sample.frames if len(sample.frames) > 1 else sample.frames[0]  # (T, H, W, 3) or (H, W, 3)
    return [Request(media=media, prompt=turn.question, regions=list(turn.regions) or None) for turn in sample.turns]


def mean_of(rows: NDArray[np.float64]) -> float:
    """Return the mean over items."""
    return float(np.mean(rows))


def share_of(rows: NDArray[np.float64]) -> float:
    """Return the ratio of sums of rows (E, 2): all parts over all wholes."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def measure(
    name: str,
    rows: Rows,
    statistic: Callable[[Any], float] = mean_of,
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
    if len(rows):
        value = _finite(statistic(rows))
        low, high = map(_finite, bootstrap_interval(rows, statistic, groups))
    else:
        chance = None  # the baseline has no items either
    return Figure(
        name=name, value=value, low=low, high=high, num_items=len(rows if groups is None else set(groups)),
        chance=_finite(chance), baseline=baseline, bar=bar,
    )  # fmt: skip


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
