"""Rate answers about drawn clips by rule."""

import pytest

from sa2va.evaluation.judge import Case, current_judge, judging
from sa2va.world.ablations.judge import NAME, ShareJudge, rate_share


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("two", "Two.", 3),
        ("two", "three", 0),
        ("it moves left", "it moves up", 0),
        ("a medium striped white square", "The medium striped white square", 3),
        ("a medium striped white square", "a small striped white square", 2),
        ("a medium striped white square", "a medium white square that moves", 2),
        ("a medium striped white square", "a small dotted white circle", 1),
        ("a medium striped white square", "a small dotted red circle", 0),
        ("a white square", "no", 0),
        ("a white square", "", 0),
        ("red", "a red square", 0),
        ("a white square", "a small striped white square in a red circle", 1),  # naming more is not rewarded
    ],
)
def test_rates_by_the_share_of_attributes(reference: str, answer: str, score: int) -> None:
    assert rate_share(reference, answer) == score


def test_benchmarks_ask_it_within_the_block() -> None:
    with judging(ShareJudge()):
        verdicts = current_judge().rate_all([Case("How many?", "two", "two"), Case("How many?", "two", "one")])
    assert [one["score"] for one in verdicts] == [3, 0] and {one["judge"] for one in verdicts} == {NAME}
