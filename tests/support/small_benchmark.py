"""Define two benchmarks on pictures of one bright square: draw its mask, name its color."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from support.small_model import draw_sample

from sa2va.evaluation import catalog
from sa2va.evaluation.benchmark import Bar, Benchmark, Record, ask_first
from sa2va.evaluation.conversation import answer_figures, answers_record
from sa2va.evaluation.referring import overlap_figures, overlap_record
from sa2va.inference.requests import Options
from sa2va.inference.results import Prediction
from sa2va.types import Sample, Turn

SHORT = Options(max_new_tokens=12)


def load_mask(seed: int, index: int) -> Sample:
    return draw_sample(1000 * seed + index)


def load_color(seed: int, index: int) -> Sample:
    sample = load_mask(seed, index)
    color = "red" if index % 2 else "blue"
    return replace(sample, turns=(Turn(question="Which color is the square?", answer=color),))


def score_mask(sample: Sample, predictions: list[Prediction]) -> Record:
    return overlap_record(predictions[0], sample.masks[0], sample.masks)


def score_color(sample: Sample, predictions: list[Prediction]) -> Record:
    return answers_record(predictions, [sample.turns[0].answer], ["color"])


def squares(split: str, seed: int | None, limit: int) -> Benchmark:
    common: dict[str, Any] = {"num_items": limit, "ask": ask_first, "seed": seed or 0, "options": SHORT}
    summarize = partial(overlap_figures, name="squares", ciou_bar=Bar(0.5))
    load = partial(load_mask, seed or 0)
    return Benchmark(name="squares", title="Squares", load=load, score=score_mask, summarize=summarize, **common)


def colors(split: str, seed: int | None, limit: int) -> Benchmark:
    common: dict[str, Any] = {"num_items": limit, "ask": ask_first, "seed": seed or 0, "options": SHORT}
    summarize = partial(answer_figures, bar=Bar(0.5))
    load = partial(load_color, seed or 0)
    return Benchmark(name="colors", title="Colors", load=load, score=score_color, summarize=summarize, **common)


def register() -> None:
    """List both in the catalog, as a file of evaluation/ would be."""
    catalog.BENCHMARKS.update(squares=squares, colors=colors)


@pytest.fixture
def small_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "BENCHMARKS", {"squares": squares, "colors": colors})
