import numpy as np
import pytest
from support.fake_answers import fake

from sa2va.evaluation.benchmark import Bar
from sa2va.evaluation.conversation import answer_figures, answers_record

NOTHING = np.zeros((0, 1, 4, 4), bool)


def talk(*asked: tuple[str, str, str]) -> dict:
    kinds, gold, said = zip(*asked, strict=True)
    return answers_record([fake(text, NOTHING) for text in said], gold, kinds)


def test_overall_and_per_kind() -> None:
    records = [
        talk(("color", "red", "Red."), ("count", "two", "three")),
        talk(("color", "blue", "red"), ("color", "red", "red")),
    ]
    overall, color, count = answer_figures(records, Bar(0.5))
    assert (overall.value, overall.num_items, overall.passed) == (0.5, 2, True)
    assert (color.name, color.value, color.num_items) == ("color", pytest.approx(2 / 3), 2)
    assert (count.name, count.value, count.num_items) == ("count", 0.0, 1)
    assert color.chance == pytest.approx(2 / 3)  # "red" to each
    assert count.chance == 1.0
    assert overall.chance == pytest.approx(3 / 4)


def test_more_questions_about_a_picture_do_not_narrow_the_interval() -> None:
    right, wrong = ("color", "red", "red"), ("color", "red", "blue")
    few = answer_figures([talk(right)] * 10 + [talk(wrong)] * 10, Bar(0.5))[0]
    many = answer_figures([talk(*[right] * 8)] * 10 + [talk(*[wrong] * 8)] * 10, Bar(0.5))[0]
    assert (many.value, many.low, many.high, many.num_items) == (few.value, few.low, few.high, 20)
    assert (few.low, few.high) == (0.3, 0.7)


def test_saying_the_usual_answer_reaches_exactly_chance() -> None:
    rng = np.random.default_rng(0)
    gold = rng.choice(["yes", "yes", "no"], 60)
    records = [talk(("existence", answer, "yes"), ("count", "one", "one")) for answer in gold]
    for figure in answer_figures(records, Bar(0.9)):
        assert figure.value == pytest.approx(figure.chance)
