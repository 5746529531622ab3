"""Check the page of an evaluation: self-contained, escaped, with what the records carry and no more."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.fake_answers import STAMP, FakePredictor, tell_truth
from support.small_benchmark import squares

from sa2va.evaluation import catalog
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Case, Record, Selection
from sa2va.evaluation.html import CASE_SIDE, choose_cases, draw_case, draw_charts
from sa2va.evaluation.runner import evaluate
from sa2va.types import Sample

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collect open elements, texts, and what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def described() -> Benchmark[Sample]:
    """Add to squares what a report shows: score, facts, confidences, cases."""
    benchmark = squares(Selection(split="dev", limit=6))

    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        place = int(sample.masks.any((0, 1, 2)).argmax())
        return benchmark.score(sample, answers) | {
            "score": place / 100, "group": place, "facts": {"side": "left" if place % 2 else "<right>"},
            "presence": 0.9, "present": place % 2 == 0, "scores": [0.8], "ious": [0.7], "curve": [0.0, 1.0],
        }  # fmt: skip

    def show(sample: Sample, answers: Sequence[Answer], record: Record) -> Case:
        truth = sample.masks[0, 0]
        return Case(expression="the <b>square</b>", picture=sample.frames[0], truth=truth, found=truth, text="It is.")

    return replace(benchmark, title="Squares & more", score=score, show=show, protocol="first < second")


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    report_of(described(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert all(source.startswith(("data:image/", "#")) for source in checker.sources)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    for text in ("Evaluation of fake", "Squares & more", "first < second", "the <b>square</b>", "It is.", "<right>"):
        assert text in checker.text
    for text in ("Score of 6 items", "J&F over time", "expected IoU, error 0.100", "presence, error", "Lowest scores"):
        assert text in checker.text
    assert "0123" in checker.text  # hash of the checkpoint


def report_of(benchmark: Benchmark[Sample], folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.BENCHMARKS, "squares", lambda selection: replace(benchmark, selection=selection))
        chosen = catalog.rebuild("squares", Selection(split="dev", limit=6))
        evaluate(FakePredictor(chosen, tell_truth), [chosen], STAMP, folder=folder)


def test_a_picture_that_is_gone_costs_one_card(tmp_path: Path) -> None:
    def show(sample: Sample, answers: Sequence[Answer], record: Record) -> Case:
        raise ValueError("a.jpg: is missing")

    report_of(replace(described(), show=show), tmp_path)
    assert "a.jpg: is missing" in (tmp_path / "report.html").read_text()


def test_records_without_scores_make_no_charts() -> None:
    assert list(draw_charts([{"said": "red"}, {}])) == []
    titles = [title for title, _ in draw_charts([{"presence": 0.5, "present": True}])]
    assert titles == []  # all objects are there: nothing to calibrate


def test_cases_are_of_different_pictures() -> None:
    records = [{"score": score, "group": group} for score, group in ((0.5, "a"), (0.1, "a"), (0.2, "b"), (0.9, "b"))]
    records += [{"text": "not scored"}]
    assert choose_cases(records) == ([1, 2], [3, 0])


@pytest.mark.parametrize(
    ("size", "drawn"), [((1000, 500), (400, 200)), ((96, 64), (384, 256)), ((300, 400), (300, 400))]
)
def test_cases_are_drawn_at_about_one_size(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    picture, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, bool)
    mask[10:40, 10:40] = True
    found = draw_case(Case(expression="", picture=picture, truth=mask, found=mask))
    assert found.shape == (*drawn, 3) and max(drawn) <= CASE_SIDE
    assert found.any()
