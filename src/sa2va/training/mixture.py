"""Open the datasets of a training mixture, order its items in batches of similar length, and count what was drawn.

Flow: DatasetShare -> open_mixture -> TrainingMixture -> BatchOrder.keys(step) -> SupervisedData (supervised.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va.data.base import ENDLESS, Dataset, Mixture, draw_item
from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.data.stored import DrawConfig, Extent, StoredDataset
from sa2va.training.stage import OF_THE_RUN, Key
from sa2va.types import Sample

GROUPED_STEPS = 50  # steps whose items are sorted by length together, as in the released sampler
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """Dataset of a mixture: where it lies and how often its samples are drawn.

    A mixture has either a weight for each of its datasets or repeats for each.
    """

    name: str = field(metadata=OF_THE_RUN)  # in data/catalog.py or an extension
    path: str = ""  # folder or file; "" = its folder below the root of all data
    split: str = "train"
    weight: float | None = None  # share of the samples, in any unit; 0 leaves the dataset out
    repeats: float | None = None  # draws of each record in an epoch of the mixture; 0 leaves the dataset out

    def __post_init__(self) -> None:
        if (self.weight is None) == (self.repeats is None):
            raise ValueError(f"dataset {self.name}: give either weight or repeats, as in datasets={self.name}:weight=1")
        if not 0 <= self.number < math.inf:
            raise ValueError(f"dataset {self.name}: weight or repeats is {self.number}; expected 0 or more")

    @property
    def number(self) -> float:
        """Weight or repeats."""
        return float(self.weight or self.repeats or 0)

    def open(self, folder: Path | None, draw: DrawConfig) -> Dataset:
        """Open the dataset.

        Args:
            folder: its folder or file; None for a generated one.
            draw: settings of the draws.
        """
        if folder is None:
            return build_dataset(self.name)
        return build_dataset(self.name, folder, split=self.split, draw=draw)

    @classmethod
    def from_text(cls, text: str) -> "DatasetShare":
        """Parse `name:key=value:...`, as in `own:path=photos:repeats=3`.

        Raises:
            ValueError: an unknown key or a value that is no number.
        """
        name, *words = text.split(":")
        values: dict[str, str | float] = {}
        for word in words:
            key, _, value = word.partition("=")
            if key not in ("path", "split", "weight", "repeats") or not value:
                raise ValueError(f"{word!r} is unknown; expected path=, split=, weight= or repeats= after the name")
            try:
                values[key] = float(value) if key in ("weight", "repeats") else value
            except ValueError:
                raise ValueError(f"{word!r}: expected a number") from None
        return cls(name=name, **values)  # ty: ignore[invalid-argument-type]


@dataclass(frozen=True)
class TrainingMixture:
    """Open datasets of a mixture, in the order of the configuration, those of share 0 left out."""

    shares: tuple[DatasetShare, ...]
    datasets: tuple[Dataset, ...]
    mixture: Mixture

    def num_items(self, epochs: float) -> int:
        """Return the number of samples of some epochs: the sum of repeats times records.

        Raises:
            ValueError: the mixture has weights, so that it has no epoch.
        """
        if any(share.repeats is None for share in self.shares):
            raise ValueError(
                "steps is 0, and a mixture of weights has no epoch; set steps, or repeats for each dataset"
            )
        repeated = zip(self.shares, self.datasets, strict=True)
        return max(1, round(epochs * sum(share.number * len(dataset) for share, dataset in repeated)))

    def draw(self, key: Key) -> Sample:
        """Return the sample of a key of `BatchOrder`."""
        source, item, epoch = map(int, key[1:])
        return draw_item(self.datasets[source], item, epoch)

    def describe(self, key: Key) -> str:
        """Name the sample of a key in messages: dataset, record and epoch."""
        source, item, epoch = map(int, key[1:])
        dataset = self.datasets[source]
        stored = isinstance(dataset, StoredDataset)
        record = dataset.describe(dataset.records[item]) if stored else f"item {item}"
        return f"dataset {self.shares[source].name}, {record}, epoch {epoch}"

    def rows(self, counts: Mapping[str, int]) -> list[dict[str, str | float]]:
        """Return a row for each dataset: records, wanted share, and what was drawn so far."""
        drawn = [counts.get(drawn_name(share), 0) for share in self.shares]
        rows: list[dict[str, str | float]] = []
        for index, (share, dataset, wanted) in enumerate(
            zip(self.shares, self.datasets, self.mixture.shares, strict=True)
        ):
            records = len(dataset) if len(dataset) < ENDLESS else "endless"
            row: dict[str, str | float] = {"dataset": share.name, "records": records, "wanted": wanted}
            if any(drawn):
                row |= {"drawn": drawn[index] / sum(drawn), "samples": drawn[index]}
            rows.append(row)
        return rows


def drawn_name(share: DatasetShare) -> str:
    """Return the name under which `Batch.counts` has the samples of a dataset."""
    return f"drawn {share.name}"


def open_mixture(shares: Sequence[DatasetShare], root: str, draw: DrawConfig, seed: int) -> TrainingMixture:
    """Open every dataset of a mixture; all records are checked.

    Args:
        shares: the datasets; names are distinct.
        root: root of all data, for datasets without a path; "" = none.
        draw: settings of the draws.
        seed: random seed of the order, and of the draws if theirs is 0.

    Raises:
        ValueError: a dataset is unknown, missing or damaged, or weights and repeats are mixed.
    """
    names = [share.name for share in shares]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"dataset {twice[0]} is twice in the mixture; list it once and raise its share")
    if len({share.weight is None for share in shares}) > 1:
        raise ValueError("some datasets of the mixture have a weight and others repeats; give all the same of the two")
    kept = tuple(share for share in shares if share.number)
    if not kept:
        raise ValueError(f"the mixture has no dataset of a share above 0 among {', '.join(names) or 'none'}")
    folders = find_folders(kept, root)
    draw = replace(draw, seed=draw.seed or seed)
    datasets = tuple(share.open(folder, draw) for share, folder in zip(kept, folders, strict=True))
    sizes = [len(dataset) if share.weight is None else 1 for share, dataset in zip(kept, datasets, strict=True)]
    for share, size in zip(kept, sizes, strict=True):
        if size >= ENDLESS:
            raise ValueError(f"dataset {share.name} is endless; give a weight, not repeats")
    weights = [share.number * size for share, size in zip(kept, sizes, strict=True)]
    return TrainingMixture(kept, datasets, Mixture(datasets, weights, seed))


def find_folders(shares: Sequence[DatasetShare], root: str) -> list[Path | None]:
    """Return the place of each dataset; None for a generated one.

    Raises:
        ValueError: some are missing; the message names all of them.
    """
    folders = [_find(share, root) for share in shares]
    absent = (str(folder) for folder in folders if folder is not None and not folder.exists())
    if missing := list(dict.fromkeys(absent)):
        raise ValueError(
            f"{', '.join(missing)} not found; put the data there, set data=ROOT or datasets.NAME.path, or leave a "
            "dataset out with datasets.NAME.repeats=0"
        )
    return folders


def _find(share: DatasetShare, root: str) -> Path | None:
    """Return the place of a dataset; None for a generated one."""
    if share.path:
        return Path(share.path)
    if share.name not in FOLDERS:
        return None
    if not root:
        raise ValueError(
            f"dataset {share.name} needs files: set data=ROOT, the folder that has {FOLDERS[share.name]}, or "
            f"datasets.{share.name}.path"
        )
    return Path(root, FOLDERS[share.name])


@dataclass(frozen=True)
class TokenCosts:
    """Approximate number of tokens of a picture and of a frame, to sort samples by length."""

    picture: int
    frame: int
    num_frames: int  # key frames of a clip

    def of(self, extent: Extent) -> int:
        """Estimate the tokens of a sample."""
        frames = extent.num_pictures
        visual = frames * self.picture if frames <= 1 else min(frames, self.num_frames) * self.frame
        return visual + extent.num_characters // CHARACTERS_PER_TOKEN


class BatchOrder:
    """Order of the items of a mixture: keys of each step, a pure function of the seed and the step.

    The items of GROUPED_STEPS steps are sorted by length and cut into groups of `group_size` items. The groups are
    shuffled and dealt to the steps, so that a step mixes tasks while samples that share a batch have similar lengths.
    Each item is used exactly once, and by the same step however many processes there are.

    Args:
        mixture: gives the items.
        costs: estimates lengths.
        batch_size: items of a step.
        steps: number of steps; the last group of steps may be shorter.
        group_size: items of similar length side by side, a divisor of batch_size; 0 = random order.
        seed: random seed of the order of groups.
    """

    def __init__(
        self, mixture: TrainingMixture, costs: TokenCosts, batch_size: int, steps: int, group_size: int, seed: int
    ) -> None:
        if group_size and batch_size % group_size:
            raise ValueError(f"group_size is {group_size}; expected a divisor of batch_size, {batch_size}")
        self._mixture, self._costs, self._seed = mixture, costs, seed
        self._batch_size, self._steps, self._group_size = batch_size, steps, group_size
        self._lengths: dict[int, NDArray[np.int32]] = {}
        self._kept: tuple[int, list[list[Key]]] = (-1, [])

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:  # without what was computed, for a worker process
        arguments = (self._mixture, self._costs, self._batch_size, self._steps, self._group_size, self._seed)
        return type(self), arguments

    def keys(self, step: int) -> list[Key]:
        """Return the keys of a step, sorted by length: (index in the mixture, dataset, record, epoch)."""
        if not self._group_size:
            return self._locate(step * self._batch_size, self._batch_size)
        part, place = divmod(step, GROUPED_STEPS)
        if self._kept[0] != part:
            self._kept = part, self._deal(part)
        return self._kept[1][place]

    def _locate(self, first: int, number: int) -> list[Key]:
        return [(index, *self._mixture.mixture.locate_item(index)) for index in range(first, first + number)]

    def _deal(self, part: int) -> list[list[Key]]:
        """Return the keys of all steps of a part."""
        first = part * GROUPED_STEPS
        num_steps = max(1, min(GROUPED_STEPS, self._steps - first))
        keys = self._locate(first * self._batch_size, num_steps * self._batch_size)
        lengths = np.array([self._length(int(source), int(item)) for _, source, item, _ in keys])
        rng = np.random.default_rng([self._seed, part, len(keys)])
        order = np.lexsort((rng.permutation(len(keys)), lengths))  # ties in random order
        groups = rng.permutation(order.reshape(-1, self._group_size))
        steps = groups.reshape(num_steps, self._batch_size)
        return [[keys[i] for i in step[np.argsort(lengths[step], kind="stable")]] for step in steps]

    def _length(self, source: int, item: int) -> int:
        if source not in self._lengths:
            self._lengths[source] = self._measure(self._mixture.datasets[source])
        lengths = self._lengths[source]
        return int(lengths[item if len(lengths) > 1 else 0])

    def _measure(self, dataset: Dataset) -> NDArray[np.int32]:
        """Estimate the length of every record, or one length for all items of a generated dataset."""
        if isinstance(dataset, StoredDataset):
            return np.array([self._costs.of(dataset.extent(index)) for index in range(len(dataset))], np.int32)
        sample = dataset[0]
        characters = sum(len(turn.question) + len(turn.answer) for turn in sample.turns)
        pictures = len(sample.media) if sample.num_frames == 1 else sample.num_frames
        return np.array([self._costs.of(Extent(pictures, characters))], np.int32)
