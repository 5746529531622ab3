"""Check facts of items and the parts that they split records into."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.evaluation.breakdown import MAX_VALUES, Part, facts_of, split_by_facts


@pytest.mark.parametrize(
    ("expression", "words", "position"),
    [
        ("man", "1 to 2", "without"),
        ("the LEFT man", "3 to 4", "with"),
        ("woman's red t-shirt", "3 to 4", "without"),  # an apostrophe and a hyphen do not part a word
        ("the leftover pizza that nobody has eaten yet", "5 to 8", "without"),  # "leftover" is no position
        ("second from the right, in the row of nine people", "9 to 16", "with"),
        (" ".join(["very"] * 17), "17 or more", "without"),
        ("", "1 to 2", "without"),
    ],
)
def test_facts_of_an_expression(expression: str, words: str, position: str) -> None:
    assert facts_of(expression) == {"words": words, "position words": position}


@pytest.mark.parametrize(
    ("number", "area", "expected"),
    [
        (0, 0.0, {"targets": "none"}),  # nothing has no size
        (1, 0.019, {"targets": "one", "size": "small"}),
        (2, 0.02, {"targets": "several", "size": "medium"}),
        (9, 0.1, {"targets": "several", "size": "large"}),
        (None, 1.0, {"size": "large"}),
        (None, None, {}),
    ],
)
def test_facts_of_targets(number: int | None, area: float | None, expected: dict[str, str]) -> None:
    assert facts_of(num_targets=number, area=area) == expected


def test_facts_of_a_dataset_are_kept_but_for_none() -> None:
    assert facts_of(kind="relation", group=None) == {"kind": "relation"}


def test_parts_follow_the_order_of_values() -> None:
    sizes = ["large", "small", "medium", "small"]
    kinds = ["b", "a", "b", "b"]
    records = [{"facts": {"size": size, "kind": kind}} for size, kind in zip(sizes, kinds, strict=True)]
    assert list(split_by_facts([*records, {}])) == [
        Part("size", "small", (1, 3)),
        Part("size", "medium", (2,)),
        Part("size", "large", (0,)),
        Part("kind", "a", (1,)),
        Part("kind", "b", (0, 2, 3)),
    ]


def test_a_fact_with_one_value_or_too_many_makes_no_part() -> None:
    records = [{"facts": {"clip": str(number), "same": "x"}} for number in range(MAX_VALUES + 1)]
    assert list(split_by_facts(records)) == []


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))))
def test_the_parts_of_a_fact_hold_each_of_its_items_once(facts: list[dict[str, str]]) -> None:
    parts = list(split_by_facts([{"facts": one} for one in facts]))
    for fact in {part.fact for part in parts}:
        indices = [index for part in parts if part.fact == fact for index in part.indices]
        assert sorted(indices) == [index for index, one in enumerate(facts) if fact in one]
