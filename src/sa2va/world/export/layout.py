"""Write drawn scenes as public datasets: whole layouts, into places that are new.

Flow: names of catalog.LAYOUTS, scenes (split of the world, seed, number of items) -> export -> Layout.parts, one per
    split of the layout -> files below a data root, at the places where the readers of data/ look.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.types import Sample
from sa2va.world.export.files import write_json
from sa2va.world.scenes.splits import TRAIN, find_split
from sa2va.world.tasks.catalog import TASKS

MAX_ITEMS = 100_000
_BLOCK = 1_000_000  # items of a task between two layouts that draw from it
_BLOCKS = 100  # of one split


@dataclass(frozen=True)
class Scenes:
    """Drawn scenes for the training split of a layout, or for each of its evaluation splits.

    Attributes:
        split: one of world/scenes/splits.py.
        seed: random seed.
        num_items: pictures or clips of each split of the layout.
        with_server_masks: write the masks that only the evaluation server of a public dataset has.
    """

    split: str
    seed: int
    num_items: int
    with_server_masks: bool = False

    @property
    def is_training(self) -> bool:
        return self.split == TRAIN


@dataclass(frozen=True)
class Part:
    """One split of a layout, with the scenes that fill it.

    Attributes:
        name: the split as the layout calls it: "train", "val", "testA", ...
        place: 0 = training; 1, 2, ... = evaluation splits in the order of the layout, which share no scene.
        scenes: what to draw.
        has_masks: whether to write masks, and the objects that expressions name.
    """

    name: str
    place: int
    scenes: Scenes
    has_masks: bool = True

    @property
    def is_training(self) -> bool:
        return self.scenes.is_training

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
            (number, sample); numbers of two parts differ.
        """
        index = (_BLOCKS * max(self.place - 1, 0) + block) * _BLOCK
        first = MAX_ITEMS * self.place
        for number in range(first, first + self.scenes.num_items):
            while not keep(sample := TASKS[task](self.scenes.seed, self.scenes.split, index, **options)):
                index += 1
            yield number, sample
            index += 1


def choose_scenes(
    splits: Sequence[str], seed: int | None, num_items: int, *, with_server_masks: bool = False
) -> list[Scenes]:
    """Choose the scenes of an export.

    Args:
        splits: "train", "dev" or "report", at most one of the last two.
        seed: random seed of the scenes; None = 0 in training, that of the split otherwise.
        num_items: pictures or clips of each split of a layout.
        with_server_masks: see Scenes.

    Raises:
        ValueError: an unknown split, two of a kind, or a number out of range.
    """
    if not 1 <= num_items <= MAX_ITEMS or (seed is not None and seed < 0):
        raise ValueError(f"items {num_items}, seed {seed}: expected 1 to {MAX_ITEMS} items and a seed of at least 0")
    chosen = []
    for name in splits:
        if name == TRAIN:
            chosen.append(Scenes(TRAIN, seed or 0, num_items))
        else:
            split = find_split(name, seed)
            chosen.append(Scenes(split.name, split.seed, num_items, with_server_masks))
    if not chosen or len({scenes.is_training for scenes in chosen}) < len(chosen):
        raise ValueError(f"splits {', '.join(splits)}: expected train, and at most one of dev and report")
    return chosen


@dataclass(frozen=True)
class Layout:
    """Layout of a public dataset.

    Attributes:
        write: function of (root of the data, parts) that writes the files.
        places: folders and files below the root that belong to this layout alone.
        datasets: names in data/catalog.py under which it is read.
        splits: names of its splits; "train" is the training split, all others are for evaluation.
        on_server: splits whose masks only the evaluation server has.
        needs: module that writes the files and is not installed with the core; "" = none.
    """

    write: Callable[[Path, Sequence[Part]], None]
    places: tuple[str, ...]
    datasets: tuple[str, ...]
    splits: tuple[str, ...] = (TRAIN, "val")
    on_server: tuple[str, ...] = ()
    needs: str = ""

    @property
    def is_writable(self) -> bool:
        """Whether the module that it needs is installed."""
        return not self.needs or find_spec(self.needs) is not None

    def parts(self, scenes: Sequence[Scenes]) -> list[Part]:
        """List the splits that scenes fill: training scenes the training split, others every evaluation split."""
        filled = []
        for one in scenes:
            names = [name for name in self.splits if (name == TRAIN) == one.is_training]
            for place, name in enumerate(names, 0 if one.is_training else 1):
                filled.append(Part(name, place, one, name not in self.on_server or one.with_server_masks))
        return filled


def find_filled(layouts: Mapping[str, Layout], scenes: Sequence[Scenes]) -> dict[str, Layout]:
    """Return the layouts that can be written and of which scenes fill a split: some have no training split."""
    return {name: layout for name, layout in layouts.items() if layout.parts(scenes) and layout.is_writable}


def export(layouts: Mapping[str, Layout], root: Path, scenes: Sequence[Scenes]) -> Iterator[str]:
    """Write layouts one after the other, each whole or not at all, and yield the name of each when it is done.

    Nothing is replaced: the places of all layouts are checked before the first is written. A small file beside them
    says which scenes each has; see `record_of`.

    Args:
        layouts: name -> layout.
        root: root of the data; may hold other datasets.
        scenes: those of training, of evaluation, or both.

    Raises:
        ValueError: a place is taken, or the scenes fill no split of a layout.
    """
    for name, layout in layouts.items():
        if not layout.parts(scenes):
            wanted = "train" if TRAIN in layout.splits else "dev"
            raise ValueError(f"layout {name} has only {', '.join(layout.splits)}; use --split {wanted}")
        _require_free(root, layout)
    for name, layout in layouts.items():
        with staged(root, Claim((re.escape(record_of(name)),))) as draft:
            assert draft is not None
            layout.write(draft, layout.parts(scenes))
            write_json(draft / record_of(name), describe_parts(layout.parts(scenes)))
            _require_free(root, layout)  # again: a user may have put something there meanwhile
        yield name


def record_of(name: str) -> str:
    """Return the place of the file that says with which scenes a layout was exported."""
    return f"drawn/{name}.json"


def describe_parts(parts: Sequence[Part]) -> dict[str, Any]:
    """Describe the scenes of each split, as JSON values."""
    return {part.name: asdict(part.scenes) for part in parts}


def _require_free(root: Path, layout: Layout) -> None:
    for place in layout.places:
        path = root / place
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ValueError(
                f"{str(path)!r}: is there already; remove it or choose another folder (all splits of a layout are "
                "written at once: --split train --split dev)"
            )
