"""Check that a JSON list is read item by item as it is read whole, and that damage is named."""

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sa2va.files.json_file import MAX_DEPTH, iterate_json_list, read_json_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(VALUES, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_items_are_those_of_the_whole_list(tmp_path: Path, values: list, indent: int | None, is_ascii: bool) -> None:
    path = tmp_path / "list.json"
    path.write_text("\n" + json.dumps(values, indent=indent, ensure_ascii=is_ascii) + " \n", encoding="utf-8")
    assert list(iterate_json_list(path)) == read_json_value(path) == values


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[1, 2", r"is not valid JSON \(line 1\)"),
        ("[1,\n2,]", r"is not valid JSON \(line 2\)"),
        ("[1 2]", r"is not valid JSON \(line 1\)"),
        ("[1] 2", r"is not valid JSON \(line 1\)"),
        ("[,]", r"is not valid JSON \(line 1\)"),
        ("[", r"is not valid JSON \(line 1\)"),
        ("[NaN]", "NaN is not a number"),
        ("[1e999]", "inf is not a number"),
        ("[" * (MAX_DEPTH + 5) + "]" * (MAX_DEPTH + 5), "is nested more than 64 deep"),
        ("[" * 100_000, "is nested more than 64 deep"),
        ('["\\ud800"]', "is not a text file"),
    ],
)
def test_damage_is_named_by_both_readers(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    for read in (read_json_value, lambda one: list(iterate_json_list(one))):
        with pytest.raises(ValueError, match=rf"list\.json:? {reason}"):
            read(path)


def test_the_byte_order_mark_of_windows_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('["caf\u00e9"]', encoding="utf-8-sig")
    assert list(iterate_json_list(path)) == read_json_value(path) == ["caf\u00e9"]


def test_an_object_is_no_list_and_items_before_the_damage_are_given(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="expected a JSON list"):
        list(iterate_json_list(path))
    path.write_text("[1, 2, oops]")
    assert list(islice(iterate_json_list(path), 2)) == [1, 2]
