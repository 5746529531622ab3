import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.text import attribute_counts, exact_match, f1, normalize, plain_text, pooled_f1

RED_CIRCLE, BLUE_SQUARE = {"color": "red", "shape": "circle"}, {"color": "blue", "shape": "square"}


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("Red.", "red", True),
        ("  two  circles ", "Two circles.", True),
        ("It is <p>red</p> [SEG].", "it is red", True),
        ("red", "dark red", False),
        ("left-hand", "left hand", True),
        ("", "yes", False),
        ("", ".", True),
        ("Größe", "größe", True),
        ("1", "one", False),
    ],
)
def test_exact_match(answer: str, gold: str, same: bool) -> None:
    assert exact_match(answer, gold) is same


def test_plain_text_keeps_case_and_punctuation() -> None:
    assert plain_text("There is <p>a red car</p> [SEG], and <p>a tree</p> [SEG].") == "There is a red car, and a tree."
    assert plain_text("Here it is: [SEG].") == "Here it is."


@given(st.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)
    assert exact_match(text, text)


def test_attributes_must_sit_on_the_same_object() -> None:
    swapped = [{"color": "blue", "shape": "circle"}, {"color": "red", "shape": "square"}]
    assert attribute_counts([BLUE_SQUARE, RED_CIRCLE], [RED_CIRCLE, BLUE_SQUARE]) == (4, 4, 4)
    assert attribute_counts(swapped, [RED_CIRCLE, BLUE_SQUARE]) == (2, 4, 4)


@pytest.mark.parametrize(
    ("pred", "gold", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([], [RED_CIRCLE], (0, 0, 2)),
        ([RED_CIRCLE], [], (0, 2, 0)),
        ([RED_CIRCLE, RED_CIRCLE], [RED_CIRCLE], (2, 4, 2)),
        ([{"shape": "circle"}], [RED_CIRCLE], (1, 1, 2)),
    ],
)
def test_attribute_counts(pred: list, gold: list, expected: tuple) -> None:
    assert attribute_counts(pred, gold) == expected


def test_some_attributes_alone() -> None:
    moving = {**RED_CIRCLE, "motion": "grows"}
    assert attribute_counts([RED_CIRCLE, moving], [moving, RED_CIRCLE], {"motion"}) == (1, 1, 1)
    assert attribute_counts([moving], [RED_CIRCLE], {"motion"}) == (0, 1, 0)
    assert attribute_counts([moving], [RED_CIRCLE], {"color", "shape"}) == (2, 2, 2)


def test_f1_from_counts() -> None:
    assert f1(0, 0, 0) == 1.0
    assert f1(2, 4, 4) == 0.5
    assert f1(0, 3, 0) == 0.0
    assert pooled_f1([(2, 4, 4), (0, 3, 0), (0, 0, 0)]) == pytest.approx(4 / 11)
