"""Define datasets read from files: records checked when built, media and masks decoded on demand.

Flow: build(path, split=, draw=) of a dataset -> StoredDataset -> base.Repeat, which asks for new draws each epoch
    -> Mixture. `sa2va data check` measures a StoredDataset (data/inspection.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from sa2va.types import Sample

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """Settings of the draws of all datasets of a mixture; the defaults are those of our models."""

    seed: int = 0
    num_expressions: int = 5  # questions of a conversation about one picture or clip
    groups: Literal["members", "union"] = "members"  # an expression of several objects: a mask each, or one for all
    absent: Literal["text", "mask"] = "text"  # an expression of nothing: "There is no ...", or an empty mask
    captions: Literal["long", "short", "both"] = "long"  # captions of Ref-SAV

    def __post_init__(self) -> None:
        if self.seed < 0 or self.num_expressions < 1:
            raise ValueError(f"draw: seed {self.seed} or num_expressions {self.num_expressions} is out of range")


@dataclass(frozen=True)
class Extent:
    """Approximate size of a sample, to group samples of similar cost."""

    num_pictures: int  # pictures, or frames of the clip
    num_characters: int  # of questions and answers


class DamagedRecords(ValueError):
    """Errors of all damaged records of a dataset; the message is the first one and the number of the others."""

    def __init__(self, errors: Sequence[str]) -> None:
        others = f" (and {len(errors) - 1} more; `sa2va data check` lists them)" if len(errors) > 1 else ""
        super().__init__(f"{errors[0]}{others}")
        self.errors = tuple(errors)


def read_each(read: Callable[[T], R | None], items: Iterable[T]) -> list[R]:
    """Read all records of a dataset; leave out those for which `read` returns None.

    Raises:
        DamagedRecords: `read` refused at least one record; every record was tried.
    """
    records, errors = [], []
    for item in items:
        try:
            record = read(item)
        except DamagedRecords as error:  # of the parts of a record
            errors += error.errors
        except ValueError as error:
            errors.append(str(error))
        else:
            records += [] if record is None else [record]
    if errors:
        raise DamagedRecords(errors)
    return records


def check_split(name: str, split: str, known: Sequence[str] = ("train",)) -> None:
    """Refuse a split that a dataset does not have.

    Raises:
        ValueError: the split is unknown.
    """
    if split not in known:
        raise ValueError(f"dataset {name}: there is no split {split!r}; it has {', '.join(known)}")


class StoredDataset(ABC, Generic[R]):
    """Samples of an annotation file, one per record (a picture or a clip with all its expressions).

    A subclass checks every record when it is built: fields, lengths, and that its media exist. `dataset[i]` is the
    first draw of record i; another epoch draws other expressions and templates.

    Attributes:
        name: name of the dataset in data/catalog.py.
        records: one per sample.
        config: settings of the draws.
        left_out: records that a rule of the dataset leaves out, counted by the rule.
    """

    def __init__(
        self, name: str, records: Sequence[R], config: DrawConfig, left_out: Mapping[str, int] | None = None
    ) -> None:
        if not records:
            raise ValueError(f"dataset {name}: no record is left to train on; check its split and its files")
        self.name, self.records, self.config, self.left_out = name, records, config, left_out or {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        return self.draw(index)

    def draw(self, index: int, epoch: int = 0) -> Sample:
        """Draw the sample of a record: a pure function of the seed, the record and the epoch.

        Raises:
            IndexError: there is no such record.
            ValueError: the record cannot be made into a sample; the message names dataset and record.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of dataset {self.name}, which has {len(self)}")
        try:
            return self.build_sample(self.records[index], Draw(self.config, index, epoch))
        except ValueError as error:
            raise ValueError(f"dataset {self.name}, {self.describe(self.records[index])}: {error}") from error

    @abstractmethod
    def build_sample(self, record: R, draw: "Draw") -> Sample:
        """Build a sample of a record; use the random generator of the draw only."""

    @abstractmethod
    def describe(self, record: R) -> str:
        """Name a record in messages, by its file and place there."""

    @abstractmethod
    def extent(self, index: int) -> Extent:
        """Estimate the size of a sample without decoding anything."""


class Draw:
    """Random choices of one draw of one record."""

    def __init__(self, config: DrawConfig, index: int, epoch: int) -> None:
        self.config, self._index, self._epoch = config, index, epoch
        self.rng = np.random.default_rng([config.seed, index, epoch])

    def choose(self, num_items: int, wanted: int) -> list[int]:
        """Choose distinct items of a record, without repetition over epochs until all have been used.

        Args:
            num_items: number of items of the record, at least 1.
            wanted: number of items to choose; all of them, shuffled, if there are fewer.

        Returns:
            min(num_items, wanted) distinct indices.
        """
        wanted = min(num_items, wanted)
        per_round = -(-num_items // wanted)  # epochs until every item was used
        round_number, part = divmod(self._epoch, per_round)
        order = np.random.default_rng([self.config.seed, self._index, round_number, 1]).permutation(num_items)
        # The last part of a round is filled up with items of its first part.
        return [int(order[(part * wanted + place) % num_items]) for place in range(wanted)]

    def pick(self, options: Sequence[Any]) -> Any:
        """Choose one option uniformly."""
        return options[int(self.rng.integers(len(options)))]
