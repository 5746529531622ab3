"""Check that mixtures keep their shares, and that an item depends only on the seed and its index.

Flow: datasets whose items carry name and index -> Take, Repeat, Mixture -> order of the items.
"""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sa2va.data.base import Dataset, Generated, Mixture, Repeat, Take, draw_item
from sa2va.data.catalog import build_dataset
from sa2va.types import Sample

FRAME = np.zeros((1, 2, 2, 3), np.uint8)


def name_items(name: str) -> Generated:
    return Generated(lambda index: Sample.of_arrays(frames=FRAME, turns=(), task=name, meta={"index": index}))


def test_a_mixture_has_its_exact_shares_in_every_block() -> None:
    mixture = Mixture([name_items("a"), name_items("b"), name_items("c")], [5, 3, 2], seed=1)
    for block in range(3):
        tasks = Counter(mixture[block * 100 + i].task for i in range(100))
        assert tasks == {"a": 50, "b": 30, "c": 20}


@given(
    weights=st.lists(st.floats(1e-6, 1) | st.just(0.0), min_size=1, max_size=9).filter(lambda w: sum(w) > 0),
    blocks=st.integers(1, 12),
)
def test_after_every_block_each_dataset_was_drawn_by_its_share(weights: list[float], blocks: int) -> None:
    mixture = Mixture([name_items("a")] * len(weights), weights)
    seen = [mixture.locate(index) for index in range(blocks * 100)]
    for number, weight in enumerate(weights):
        items = [item for source, item in seen if source == number]
        assert items == list(range(len(items)))
        assert abs(len(items) - blocks * 100 * weight / sum(weights)) < 1 + 1e-6


def test_a_located_item_is_the_item_of_the_mixture() -> None:
    datasets = [Take(name_items("a"), 3), name_items("b")]
    mixture = Mixture(datasets, [3, 5], seed=4)
    for index in range(1500):
        source, item, epoch = mixture.locate_item(index)
        assert draw_item(datasets[source], item, epoch).meta == mixture[index].meta
    epochs = sorted(epoch for source, _, epoch in map(mixture.locate_item, range(800)) if source == 0)
    assert epochs == [number // 3 for number in range(300)]


def test_a_mixture_uses_every_item_once() -> None:
    mixture = Mixture([name_items("a"), name_items("b")], [1, 2], seed=1)
    seen = [mixture.locate(i) for i in range(3000)]
    assert len(set(seen)) == 3000
    for source in (0, 1):
        items = sorted(item for where, item in seen if where == source)
        assert items == list(range(len(items)))


def test_a_mixture_is_a_pure_function_of_seed_and_number() -> None:
    def order(seed: int, numbers: list[int]) -> dict[int, tuple[int, int]]:
        mixture = Mixture([name_items("a"), name_items("b")], [1, 1], seed=seed)
        return {number: mixture.locate(number) for number in numbers}

    numbers = [5, 2999, 17, 100_000]
    assert order(1, numbers) == {n: order(1, [n])[n] for n in reversed(numbers)}
    assert order(1, list(range(100))) != order(2, list(range(100)))


def test_repeat_shuffles_every_round_and_misses_nothing() -> None:
    dataset = Repeat(Take(name_items("a"), 7), seed=3)
    rounds = [[dataset[r * 7 + i].meta["index"] for i in range(7)] for r in range(4)]
    assert all(sorted(items) == list(range(7)) for items in rounds)
    assert len({tuple(items) for items in rounds}) > 1


@pytest.mark.parametrize("size", [5, 700, 5000])
def test_a_mixture_makes_no_shuffle_twice(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permutations are cached for any number of datasets, since a long one costs far more than an item."""
    made: list[tuple[int, ...]] = []
    real = np.random.default_rng

    def counted(seed: list[int]) -> np.random.Generator:
        made.append(tuple(seed))
        return real(seed)

    sizes = [size + number for number in range(20)]
    mixture = Mixture([Take(name_items("a"), one) for one in sizes], [1] * 20, seed=0)
    monkeypatch.setattr(np.random, "default_rng", counted)
    for index in range(4000):
        mixture[index]
    rounds = sum(-(-200 // one) for one in sizes)  # of 200 items that each of them gives
    assert len(made) == 40 + rounds, "40 blocks, and every round of every dataset"


def test_the_order_of_a_dataset_stays_what_runs_have_begun_with() -> None:
    dataset = Repeat(Take(name_items("a"), 7), seed=3)
    assert [dataset[index].meta["index"] for index in range(14)] == [3, 0, 1, 4, 5, 6, 2, 3, 5, 0, 6, 1, 2, 4]
    mixture = Mixture([name_items("a"), name_items("b")], [1, 1], seed=5)
    assert [mixture.locate(index) for index in (0, 1, 2, 100)] == [(1, 0), (0, 0), (1, 1), (1, 50)]


@given(size=st.integers(1, 300), seed=st.integers(0, 2**32), start=st.integers(0, 50))
def test_every_round_is_a_permutation_wherever_a_run_goes_on(size: int, seed: int, start: int) -> None:
    dataset = Take(name_items("a"), size)
    whole, resumed = Repeat(dataset, seed=seed), pickle.loads(pickle.dumps(Repeat(dataset, seed=seed)._shuffles))
    for epoch in (start, start + 1):
        items = [whole[epoch * size + rank].meta["index"] for rank in range(size)]
        assert sorted(items) == list(range(size))
        assert items == resumed[epoch].tolist()


def test_a_mixture_repeats_a_finite_dataset() -> None:
    mixture = Mixture([Take(name_items("a"), 3), name_items("b")], [1, 1])
    found = [mixture[i] for i in range(200)]
    assert {s.meta["index"] for s in found if s.task == "a"} == {0, 1, 2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture([], []), "one weight each"),
        (lambda: Mixture([name_items("a")], [1, 2]), "one weight each"),
        (lambda: Mixture([name_items("a")], [0]), "a sum above 0"),
        (lambda: Mixture([name_items("a"), name_items("b")], [1, -1]), "expected numbers >= 0"),
        (lambda: Repeat(name_items("a")), "a finite dataset"),
        (lambda: Take(Take(name_items("a"), 3), 4), "expected 1 to 3"),
    ],
)
def test_bad_mixtures_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_datasets_are_map_style() -> None:
    taken = Take(name_items("a"), 2)
    assert len(taken) == 2 and [sample.meta["index"] for sample in taken] == [0, 1]
    assert all(isinstance(one, Dataset) for one in (taken, Repeat(taken), Mixture([taken], [1])))
    with pytest.raises(IndexError):
        taken[2]
    loader = DataLoader(taken, batch_size=2, collate_fn=list)
    assert [sample.meta["index"] for batch in loader for sample in batch] == [0, 1]


def test_the_catalog_knows_its_names() -> None:
    with pytest.raises(ValueError, match="dataset 'nothing' is unknown"):
        build_dataset("nothing")
