"""Define map-style datasets of Samples and their seeded mixture.

Flow: data/catalog.py -> Dataset -> Mixture -> a stage's data (training/stage.py), read by torch's DataLoader.
    Item i is a pure function of the seed and i, so a resumed run or another worker needs only i.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sa2va.types import Sample

ENDLESS = 10**9  # nominal length of an endless dataset
_BLOCK = 100  # items in a block of a mixture, after which each dataset was drawn by its share


@runtime_checkable
class Dataset(Protocol):
    """Samples by index, 0 to len - 1."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Return item `index`, the same one every time."""


@runtime_checkable
class Redrawn(Protocol):
    """A dataset whose items can be drawn anew, with other expressions and templates; see data/stored.py."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def draw(self, index: int, epoch: int) -> Sample:
        """Return the draw of an epoch of item `index`, the same one every time."""


class Generated:
    """Dataset of generated items, each a pure function of its index; `length` is its nominal size."""

    def __init__(self, build: Callable[[int], Sample], length: int = ENDLESS) -> None:
        self._build, self._length = build, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        return self._build(_checked(index, self))


class Take:
    """First `length` items of a dataset."""

    def __init__(self, dataset: Dataset, length: int) -> None:
        if not 1 <= length <= len(dataset):
            raise ValueError(f"Take: length is {length}; expected 1 to {len(dataset)}, the size of the dataset")
        self.dataset, self._length = dataset, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[_checked(index, self)]


class _Shuffles:
    """Permutations by round number: pure functions of seed, round and size.

    The cache holds every permutation that one block of a mixture may need in any order: at least two, since a block
    may contain the end of one round and the start of the next.
    """

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size
        self._most = _BLOCK // size + 2
        self._kept: dict[int, np.ndarray] = {}

    def __reduce__(self) -> tuple[type, tuple[int, int]]:
        return type(self), (self._seed, self._size)  # a worker process computes its own permutations

    def __getitem__(self, round_number: int) -> np.ndarray:
        if round_number not in self._kept:
            if len(self._kept) == self._most:
                del self._kept[next(iter(self._kept))]
            order = np.random.default_rng([self._seed, round_number, self._size]).permutation(self._size)
            self._kept[round_number] = order.astype(np.min_scalar_type(self._size))
        return self._kept[round_number]


class Repeat:
    """Endless repetition of a dataset; every epoch is another permutation of its items, and another draw of each."""

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        if not 1 <= len(dataset) < ENDLESS:
            raise ValueError(f"Repeat: expected a finite dataset with items, got one of {len(dataset)} items")
        self.dataset = dataset
        self._shuffles = _Shuffles(seed, len(dataset))

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        return draw_item(self.dataset, *self.locate(_checked(index, self)))

    def locate(self, index: int) -> tuple[int, int]:
        """Return the item of the dataset at place `index`, and its epoch."""
        epoch, rank = divmod(index, len(self.dataset))
        return int(self._shuffles[epoch][rank]), epoch


class Mixture:
    """Mixture of datasets with given sampling weights.

    Blocks of 100 items are shuffled by (seed, block). After every block each dataset has been drawn by its share, with
    an error below one item. Within a dataset no item comes again before all have come.

    Args:
        datasets: datasets to mix; finite ones are repeated.
        weights: one per dataset, in any unit; 0 leaves a dataset out.
        seed: random seed of the order.
    """

    def __init__(self, datasets: Sequence[Dataset], weights: Sequence[float], seed: int = 0) -> None:
        if not datasets or len(datasets) != len(weights):
            raise ValueError(f"Mixture: {len(datasets)} datasets and {len(weights)} weights, expected one weight each")
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"Mixture: weights are {list(weights)}; expected numbers >= 0 with a sum above 0")
        self._datasets = [d if len(d) >= ENDLESS else Repeat(d, seed=seed) for d in datasets]
        self._shuffles = _Shuffles(seed, _BLOCK)
        self._shares = np.asarray(weights, float) / sum(weights)
        self._drawn = [np.zeros(len(datasets), int)]  # items of each dataset in all blocks before block b
        self._blocks: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def shares(self) -> list[float]:
        """Share of each dataset; they sum to 1."""
        return self._shares.tolist()

    def locate(self, index: int) -> tuple[int, int]:
        """Return the dataset of item `index` and the item's index in it."""
        block, place = divmod(index, _BLOCK)
        sources, items = self._block(block)
        return int(sources[place]), int(items[place])

    def locate_item(self, index: int) -> tuple[int, int, int]:
        """Return the dataset of item `index`, the item of the dataset before repetition, and its epoch."""
        source, item = self.locate(index)
        dataset = self._datasets[source]
        return (source, *dataset.locate(item)) if isinstance(dataset, Repeat) else (source, item, 0)

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the dataset at each place of a block, and the item of that dataset."""
        if block not in self._blocks:
            while len(self._drawn) <= block + 1:
                due = self._shares * (len(self._drawn) * _BLOCK) - self._drawn[-1]
                self._drawn.append(self._drawn[-1] + _apportion(due, _BLOCK))
            start, end = self._drawn[block : block + 2]
            sources = np.repeat(np.arange(len(start)), end - start)[self._shuffles[block]]
            items = np.empty(_BLOCK, int)
            in_order = np.concatenate([np.arange(*span) for span in zip(start, end, strict=True)])
            items[np.argsort(sources, kind="stable")] = in_order
            if len(self._blocks) == 2:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[block] = sources, items
        return self._blocks[block]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        source, item = self.locate(_checked(index, self))
        return self._datasets[source][item]


def draw_item(dataset: Dataset, item: int, epoch: int) -> Sample:
    """Return the draw of an epoch of an item; a dataset that cannot be drawn anew returns the same one every time."""
    return dataset.draw(item, epoch) if isinstance(dataset, Redrawn) else dataset[item]


def _checked(index: int, dataset: Dataset) -> int:
    if not 0 <= index < len(dataset):
        raise IndexError(f"item {index} of a dataset of {len(dataset)}")
    return index


def _apportion(due: np.ndarray, total: int) -> np.ndarray:
    """Split an integer into counts close to what is due to each, by the largest remainder method; none is negative."""
    counts = np.floor(np.maximum(due, 0)).astype(int)
    rest = np.argsort(counts - due, kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts
