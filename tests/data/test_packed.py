"""Check that packed records come back as they were."""

import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.data.packed import PackedRecords, pack


@dataclass(frozen=True)
class Item:
    name: str
    values: list


@given(st.lists(st.builds(Item, st.text(max_size=5), st.lists(st.integers() | st.floats(-1e9, 1e9) | st.none()))))
def test_records_come_back_as_they_were(items: list[Item]) -> None:
    packed = PackedRecords(Item, map(pack, items))
    assert len(packed) == len(items) and list(packed) == items
    assert list(pickle.loads(pickle.dumps(packed))) == items
    assert packed[1:] == items[1:] and packed[::-1] == items[::-1]


def test_a_place_outside_is_an_index_error() -> None:
    packed = PackedRecords(Item, [pack(Item("a", [1]))])
    assert packed[-1] == packed[0]
    for place in (1, -2):
        with pytest.raises(IndexError, match="out of range"):
            packed[place]
