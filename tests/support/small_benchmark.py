"""Define two benchmarks on pictures of one bright square: draw its mask, name its color."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from support.small_model import draw_sample

from sa2va.evaluation import catalog
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Benchmark, Record, Selection, ask_first
from sa2va.evaluation.conversation import answer_figures, answers_record
from sa2va.evaluation.referring import overlap_figures, overlap_record
from sa2va.inference.requests import Options
from sa2va.types import Sample, Turn

SHORT = Options(max_new_tokens=12)


def load_mask(seed: int, index: int) -> Sample:
    return draw_sample(1000 * seed + index)


def load_color(seed: int, index: int) -> Sample:
    sample = load_mask(seed, index)
    color = "red" if index % 2 else "blue"
    return replace(sample, turns=(Turn(question="Which color is the square?", answer=color),))


def score_mask(sample: Sample, answers: Sequence[Answer]) -> Record:
    return overlap_record(answers[0], sample.masks[0], sample.masks)


def score_color(sample: Sample, answers: Sequence[Answer]) -> Record:
    return answers_record(answers, [sample.turns[0].answer], ["color"])


def common_parts(selection: Selection) -> dict[str, Any]:
    ids = [str(number) for number in range(selection.limit or 4)]
    return {"ids": ids, "ask": ask_first, "seed": selection.seed or 0, "split": selection.split, "options": SHORT}


def squares(selection: Selection) -> Benchmark[Sample]:
    common = common_parts(selection)
    summarize = partial(overlap_figures, name="squares", ciou_bar=Bar(0.5))
    load = partial(load_mask, selection.seed or 0)
    return Benchmark(name="squares", title="Squares", load=load, score=score_mask, summarize=summarize, **common)


def colors(selection: Selection) -> Benchmark[Sample]:
    common = common_parts(selection)
    summarize = partial(answer_figures, bar=Bar(0.5))
    load = partial(load_color, selection.seed or 0)
    return Benchmark(name="colors", title="Colors", load=load, score=score_color, summarize=summarize, **common)


def register() -> None:
    """List both in the catalog, as a file of evaluation/ would be."""
    catalog.BENCHMARKS.update(squares=squares, colors=colors)


@pytest.fixture
def small_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "BENCHMARKS", {"squares": squares, "colors": colors})
