import json

import numpy as np
import pytest

from sa2va.evaluation.benchmark import Bar, Figure, ask_each, ask_first, measure, values_only
from sa2va.metrics.interval import share
from sa2va.types import Sample, Turn


@pytest.mark.parametrize(
    ("bar", "value", "holds", "text"),
    [
        (Bar(0.75), 0.75, True, ">= 0.75"),
        (Bar(0.75), 0.749, False, ">= 0.75"),
        (Bar(0.05, at_most=True), 0.05, True, "<= 0.05"),
        (Bar(0.05, at_most=True), 0.051, False, "<= 0.05"),
    ],
)
def test_bar(bar: Bar, value: float, holds: bool, text: str) -> None:
    assert bar.holds(value) is holds
    assert str(bar) == text


def test_a_figure_without_items_misses_its_bar_and_claims_nothing() -> None:
    figure = measure("nothing", np.zeros((0, 2)), share, chance=0.5, bar=Bar(0.0))
    assert figure == Figure(name="nothing", value=None, low=None, high=None, num_items=0, chance=None, bar=Bar(0.0))
    assert figure.passed is False
    assert measure("nothing", []).passed is None


@pytest.mark.parametrize(
    ("low", "high", "at_most", "verdict"),
    [
        (0.50, 0.60, False, "reached"),
        (0.45, 0.60, False, "about"),
        (0.40, 0.49, False, "missed"),
        (0.40, 0.50, True, "reached"),
        (0.45, 0.60, True, "about"),
        (0.51, 0.60, True, "missed"),
    ],
)
def test_a_bar_inside_the_interval_is_about(low: float, high: float, at_most: bool, verdict: str) -> None:
    figure = Figure(name="x", value=(low + high) / 2, low=low, high=high, num_items=9, bar=Bar(0.5, at_most))
    assert figure.verdict == verdict


def test_measure_weighs_an_item_by_its_parts() -> None:
    figure = measure("share", np.array([[1.0, 1.0], [0.0, 3.0]]), share, bar=Bar(0.25))
    assert (figure.value, figure.num_items, figure.passed) == (0.25, 2, True)
    assert (figure.low, figure.high) == (0.0, 1.0)


def test_measure_counts_groups_and_not_their_rows() -> None:
    rows = np.random.default_rng(0).random(20)
    alone = measure("score", rows)
    together = measure("score", np.repeat(rows, 7), groups=np.repeat(np.arange(20), 7))
    assert together.num_items == alone.num_items == 20
    assert (together.value, together.low, together.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_what_is_not_finite_is_none() -> None:
    figure = measure("score", np.array([np.nan, 0.5]), chance=float("inf"), bar=Bar(0.0))
    assert (figure.value, figure.low, figure.high, figure.chance, figure.passed) == (None, None, None, None, False)


@pytest.mark.parametrize(("num_frames", "shape"), [(1, (8, 9, 3)), (3, (3, 8, 9, 3))])
def test_each_question_is_asked_on_its_own(num_frames: int, shape: tuple[int, ...]) -> None:
    mark = np.ones((8, 9), bool)
    turns = (Turn(question="What is region1?", answer="a", regions=(mark,)), Turn(question="And?", answer="b"))
    sample = Sample.of_arrays(frames=np.zeros((num_frames, 8, 9, 3), np.uint8), turns=turns)
    first, second = ask_each(sample)
    assert first.media.shape == shape
    assert first.prompt == "What is region1?"
    assert first.regions is not None and first.regions[0] is mark
    assert (second.prompt, second.regions) == ("And?", None)
    assert [request.prompt for request in ask_first(sample)] == ["What is region1?"]


def test_values_can_be_computed_without_their_intervals() -> None:
    with values_only():
        figure = measure("score", np.array([0.0, 1.0]))
    assert (figure.value, figure.low, figure.high) == (0.5, None, None)
    assert measure("score", np.array([0.0, 1.0])).low == 0.0


def test_a_figure_keeps_what_it_was_computed_from_but_not_in_json() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 2.0]])
    figure = measure("share", rows, share, groups=["a", "b"], bar=Bar(0.5))
    assert figure.table is not None
    assert figure.table.statistic(figure.table.rows) == figure.value == 0.25
    assert figure.table.labels == ["a", "b"]
    assert json.loads(json.dumps(figure.to_dict())) == {
        "name": "share", "value": 0.25, "low": 0.0, "high": 0.5, "num_items": 2, "chance": None, "baseline": "",
        "bar": ">= 0.50", "passed": False, "verdict": "about",
    }  # fmt: skip
