"""Write drawn scenes as public datasets: whole layouts, into places that are new.

Flow: names of catalog.LAYOUTS, parts (split, seed, number of items) -> export -> files below a data root, at the places
    where the readers of data/ look.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.types import Sample
from sa2va.world.scenes.splits import TRAIN, find_split
from sa2va.world.tasks.catalog import TASKS

MAX_ITEMS = 100_000
_BLOCK = 1_000_000  # items of a task between two layouts that draw from it


@dataclass(frozen=True)
class Part:
    """Items of one split of the drawn world, for the training or the validation part of a layout."""

    split: str  # of world/scenes/splits.py
    seed: int
    num_items: int

    @property
    def is_training(self) -> bool:
        return self.split == TRAIN

    def draw(
        self, task: str, *, block: int = 0, keep: Callable[[Sample], Any] = bool, **options: Any
    ) -> Iterator[tuple[int, Sample]]:
        """Yield `num_items` samples of a task that a layout can express, each with its number in the layout.

        Args:
            task: a key of world.tasks.catalog.TASKS.
            block: samples of two blocks differ.
            keep: returns something true for the samples to take.
            options: passed on to the task.

        Returns:
            (number, sample); numbers of the training and of the validation part differ.
        """
        index, first = block * _BLOCK, 0 if self.is_training else MAX_ITEMS
        for number in range(first, first + self.num_items):
            while not keep(sample := TASKS[task](self.seed, self.split, index, **options)):
                index += 1
            yield number, sample
            index += 1


def build_parts(splits: Sequence[str], seed: int | None, num_items: int) -> list[Part]:
    """Build the parts of an export.

    Args:
        splits: "train", "dev" or "report", at most one of the last two.
        seed: random seed of the scenes; None = 0 in training, that of the split otherwise.
        num_items: pictures or clips of each part.

    Raises:
        ValueError: an unknown split, two of a kind, or a number out of range.
    """
    if not 1 <= num_items <= MAX_ITEMS or (seed is not None and seed < 0):
        raise ValueError(f"items {num_items}, seed {seed}: expected 1 to {MAX_ITEMS} items and a seed of at least 0")
    parts = []
    for name in splits:
        if name == TRAIN:
            parts.append(Part(TRAIN, seed or 0, num_items))
        else:
            split = find_split(name, seed)
            parts.append(Part(split.name, split.seed, num_items))
    if not parts or len({part.is_training for part in parts}) < len(parts):
        raise ValueError(f"splits {', '.join(splits)}: expected train, and at most one of dev and report")
    return parts


@dataclass(frozen=True)
class Layout:
    """Layout of a public dataset.

    Attributes:
        write: function of (root of the data, parts) that writes the files.
        places: folders and files below the root that belong to this layout alone.
        datasets: names in data/catalog.py under which it is read.
        has_validation: the public dataset has a validation part.
    """

    write: Callable[[Path, Sequence[Part]], None]
    places: tuple[str, ...]
    datasets: tuple[str, ...]
    has_validation: bool = True


def export(layouts: Mapping[str, Layout], root: Path, parts: Sequence[Part]) -> Iterator[str]:
    """Write layouts one after the other, each whole or not at all, and yield the name of each when it is done.

    Nothing is replaced: the places of all layouts are checked before the first is written.

    Args:
        layouts: name -> layout.
        root: root of the data; may hold other datasets.
        parts: training part, validation part or both; a layout without a validation part gets the training part only.

    Raises:
        ValueError: a place is taken, or a layout has none of the parts.
    """
    for name, layout in layouts.items():
        if not _parts_of(layout, parts):
            raise ValueError(f"layout {name} has no validation part; use --split train")
        _require_free(root, layout)
    for name, layout in layouts.items():
        with staged(root, Claim()) as draft:
            assert draft is not None
            layout.write(draft, _parts_of(layout, parts))
            _require_free(root, layout)  # again: a user may have put something there meanwhile
        yield name


def _parts_of(layout: Layout, parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.is_training or layout.has_validation]


def _require_free(root: Path, layout: Layout) -> None:
    for place in layout.places:
        path = root / place
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ValueError(
                f"{str(path)!r}: is there already; remove it or choose another folder (both parts of a layout are "
                "written at once: --split train --split dev)"
            )
