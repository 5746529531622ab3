"""Hold datasets of Samples together: what a dataset is, and how several become one endless, seeded stream.

Flow: data/catalog.py -> Dataset -> Mixture -> training/loop.py, which hands Samples to the processor.
    Item i is a pure function of the seed and i, so a run that resumes, or a second worker, needs only i.
Shapes: none.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sa2va.types import Sample

_BLOCK = 1000  # items of a mixture after which every dataset has had exactly its share


@runtime_checkable
class Dataset(Protocol):
    """Samples by number. `num_items` is None where there is no end."""

    num_items: int | None

    def sample(self, index: int) -> Sample:
        """Return item `index`, the same one every time."""
        ...


class Generated:
    """An endless dataset: a pure function of the index."""

    num_items: int | None = None

    def __init__(self, build: Callable[[int], Sample]) -> None:
        self._build = build

    def sample(self, index: int) -> Sample:
        return self._build(index)


class Take:
    """The first `num_items` of a dataset."""

    def __init__(self, dataset: Dataset, num_items: int) -> None:
        if num_items < 1 or (dataset.num_items is not None and num_items > dataset.num_items):
            raise ValueError(f"Take: {num_items} items asked for, the dataset has {dataset.num_items}")
        self.dataset = dataset
        self.num_items: int | None = num_items

    def sample(self, index: int) -> Sample:
        if not 0 <= index < (self.num_items or 0):
            raise IndexError(f"item {index} of a dataset of {self.num_items}")
        return self.dataset.sample(index)


class _Shuffles:
    """The shuffles of the items of one stream, by round: pure functions of seed, round and size.

    Each stream keeps its own, so that however many take turns, none is made twice; and all that a block of a mixture
    may ask for in any order: at least two, since one round ends where the next begins.
    """

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size
        self._most = _BLOCK // size + 2
        self._kept: dict[int, np.ndarray] = {}

    def __reduce__(self) -> tuple[type, tuple[int, int]]:
        return type(self), (self._seed, self._size)  # a worker process makes its own

    def __getitem__(self, round_number: int) -> np.ndarray:
        if round_number not in self._kept:
            if len(self._kept) == self._most:
                del self._kept[next(iter(self._kept))]
            order = np.random.default_rng([self._seed, round_number, self._size]).permutation(self._size)
            self._kept[round_number] = order.astype(np.min_scalar_type(self._size))
        return self._kept[round_number]


class Repeat:
    """A finite dataset made endless: every round is another shuffle of all its items."""

    num_items: int | None = None

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        if not dataset.num_items:
            raise ValueError(f"Repeat: expected a dataset with a number of items, got {dataset.num_items}")
        self.dataset = dataset
        self._size = dataset.num_items
        self._shuffles = _Shuffles(seed, self._size)

    def sample(self, index: int) -> Sample:
        epoch, rank = divmod(index, self._size)
        return self.dataset.sample(int(self._shuffles[epoch][rank]))


class Mixture:
    """Several datasets in given shares.

    Every block of 1,000 items holds each dataset exactly by its share, in an order shuffled from (seed, block);
    within a dataset no item comes twice before all have come.

    Args:
        datasets: what to mix; finite ones are repeated.
        weights: one per dataset, in any unit; at least 1/1000 of the sum, or 0 to leave one out.
        seed: of the order.
    """

    num_items: int | None = None

    def __init__(self, datasets: Sequence[Dataset], weights: Sequence[float], seed: int = 0) -> None:
        if not datasets or len(datasets) != len(weights):
            raise ValueError(f"Mixture: {len(datasets)} datasets and {len(weights)} weights, expected one weight each")
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"Mixture: weights {list(weights)} must not be negative and not all zero")
        self._datasets = [d if d.num_items is None else Repeat(d, seed=seed) for d in datasets]
        self._shuffles = _Shuffles(seed, _BLOCK)
        self._counts = _apportion(np.asarray(weights, float) / sum(weights), _BLOCK)
        missed = [i for i, weight in enumerate(weights) if weight > 0 and self._counts[i] == 0]
        if missed:
            raise ValueError(f"Mixture: weight {weights[missed[0]]} is under a thousandth of all; raise it or use 0")
        # Slot k of a block before the shuffle: which dataset, and which of its items in this block.
        self._sources = np.repeat(np.arange(len(datasets)), self._counts)
        self._ranks = np.concatenate([np.arange(count) for count in self._counts])

    def locate(self, index: int) -> tuple[int, int]:
        """Tell which dataset gives item `index`, and which of its items it is."""
        block, slot = divmod(index, _BLOCK)
        place = self._shuffles[block][slot]
        source = int(self._sources[place])
        return source, block * int(self._counts[source]) + int(self._ranks[place])

    def sample(self, index: int) -> Sample:
        source, item = self.locate(index)
        return self._datasets[source].sample(item)


def _apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Split a whole number by shares, largest remainders first."""
    counts = np.floor(shares * total).astype(int)
    rest = np.argsort(counts - shares * total, kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts
