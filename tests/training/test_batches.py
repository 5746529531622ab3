"""Every tensor of a batch is found, wherever it is, and comes back as it was."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sa2va.training.batches import Slot, put_arrays, take_arrays, to_device


@dataclass(frozen=True, slots=True)
class Bag:
    items: list
    name: str = "bag"

    def __post_init__(self) -> None:
        assert not any(isinstance(item, Slot) for item in self.items)


class OwnWay:
    def to(self, device):
        return f"moved to {device}"


def test_to_device_walks_a_batch():
    moved = to_device({"bag": Bag([torch.ones(2), "text"]), "pair": (torch.ones(1), 3)}, torch.device("meta"))
    assert moved["bag"].items[0].device.type == moved["pair"][0].device.type == "meta"
    assert moved["bag"].items[1] == "text" and moved["pair"][1] == 3 and moved["bag"].name == "bag"


def test_what_knows_how_to_move_does_it_itself():
    assert to_device(OwnWay(), torch.device("cpu")) == "moved to cpu"
    assert to_device([OwnWay()], torch.device("cpu")) == ["moved to cpu"]


@pytest.mark.parametrize(
    "leaf",
    [
        torch.arange(12).reshape(3, 4).T,
        torch.tensor(2.5),
        torch.zeros(0, 4),
        torch.ones(3, 5, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        np.arange(12.0).reshape(3, 4).T,
        np.array(7),
        np.zeros((0, 2), dtype=np.uint8),
    ],
)
def test_take_and_put_are_inverse(leaf):
    batch, arrays = take_arrays(Bag([leaf, {"again": leaf}]))
    assert len(arrays) == 2 and all(array.dtype == np.uint8 and array.ndim == 1 for array in arrays)
    back = put_arrays(batch, [array.copy() for array in arrays])
    for found in (back.items[0], back.items[1]["again"]):
        assert type(found) is type(leaf) and found.dtype == leaf.dtype and found.shape == leaf.shape
        assert bool((found == leaf).all())


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_a_batch_without_arrays_is_left_as_it_is(nest):
    batch, arrays = take_arrays(nest)
    assert arrays == []
    assert batch == put_arrays(batch, []) == nest


def test_an_empty_tensor_from_numpy_makes_the_trip():
    empty = torch.from_numpy(np.random.default_rng(0).permutation(0)[:6])
    batch, arrays = take_arrays({"rows": empty})
    back = put_arrays(batch, arrays)["rows"]
    assert back.shape == (0,) and back.dtype == torch.int64
