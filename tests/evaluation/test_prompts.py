"""Check the questions that evaluation asks."""

import pytest

from sa2va.data.referring import Expression
from sa2va.evaluation.prompts import Wording, question_for

PHRASE, QUESTION = Expression("the dog", (0,)), Expression("which one barks?", (0,))


@pytest.mark.parametrize(
    "expression, wording, is_clip, wanted",
    [
        (PHRASE, "ours", False, "Please segment the dog."),
        (PHRASE, "ours", True, "Please segment the dog."),
        (QUESTION, "ours", False, "which one barks?"),
        (PHRASE, "released", False, " Please segment the dog in this image."),
        (PHRASE, "released", True, "Please segment the dog."),
        (QUESTION, "released", True, "which one barks? Please respond with segmentation mask."),
        (Expression("", (0,)), "ours", False, "Please segment ."),
    ],
)
def test_the_question_for_an_expression(expression: Expression, wording: Wording, is_clip: bool, wanted: str) -> None:
    assert question_for(expression, wording, is_clip=is_clip) == wanted
