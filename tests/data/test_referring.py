"""Check the questions that are asked for expressions."""

import pytest

from sa2va.data import prompts
from sa2va.data.referring import Expression, build_turn, question_of
from sa2va.data.stored import Draw, DrawConfig

ONE = (0,)
DESCRIBED = prompts.SEGMENT_DESCRIBED[0]


@pytest.mark.parametrize(
    ("expression", "question"),
    [
        (Expression("the red cup.", ONE), "Please segment the red cup."),
        (Expression("both cups", (0, 1)), "Please segment both cups."),
        (Expression("Which cup is full?", ONE), "Which cup is full?"),
        (Expression("Find the cup.", ONE, is_sentence=True), "Find the cup."),
        (Expression("A cup. It is red.", ONE, is_description=True), DESCRIBED.format("A cup. It is red.")),
    ],
)  # fmt: skip
def test_evaluation_asks_what_training_draws(expression: Expression, question: str) -> None:
    assert question_of(expression) == question
    drawn = {build_turn(expression, expression.objects, Draw(DrawConfig(), 0, epoch)).question for epoch in range(60)}
    assert question in drawn
