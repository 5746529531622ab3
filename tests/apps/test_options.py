"""Check how the words of a command line become numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.apps.options import parse_region, parse_regions, require_text


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("10,20,30,40", (10.0, 20.0, 30.0, 40.0)),
        ("1.5,2", (1.5, 2.0)),
        (" 1 , 2 , 3 , 4 ", (1.0, 2.0, 3.0, 4.0)),
        ("-5,-5,10,10", (-5.0, -5.0, 10.0, 10.0)),
    ],
)
def test_regions_that_can_be_read(text: str, region: tuple[float, ...]) -> None:
    assert parse_region(text) == region


@pytest.mark.parametrize("text", ["", "a,b", "1", "1,2,3", "1,2,3,4,5", "nan,1", "1,2,inf,4", "5,5,5,9", "9,0,1,5"])
def test_regions_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="--region") as caught:
        parse_region(text)
    assert "\n" not in str(caught.value)


@given(st.lists(st.integers(-9999, 9999), min_size=2, max_size=2))
def test_every_point_survives_the_trip(numbers: list[int]) -> None:
    assert parse_region(",".join(map(str, numbers))) == tuple(map(float, numbers))


def test_no_region_is_none() -> None:
    assert parse_regions(None) is None
    assert parse_regions(["1,2", "1,2,3,4"]) == [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0)]


def test_a_text_is_stripped_and_must_say_something() -> None:
    assert require_text(" the red car ", "EXPRESSION") == "the red car"
    with pytest.raises(ValueError, match="EXPRESSION is empty"):
        require_text(" \n", "EXPRESSION")
