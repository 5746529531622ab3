"""Build samples of a user's own pictures and clips, whatever their format.

Flow: path -> own/catalog.py finds the format -> its reader -> OwnAnnotations, expressions.csv -> OwnDataset -> Sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sa2va.data.own.catalog import read_annotations
from sa2va.data.own.expressions import write_absent, write_expressions
from sa2va.data.own.objects import OwnAnnotations, OwnConfig, OwnItem
from sa2va.data.own.sidecar import add_expressions
from sa2va.data.referring import Expression, refer
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset
from sa2va.data.tracks import StoredTracks
from sa2va.types import Sample

SPLITS = ("train", "val", "all")


@dataclass(frozen=True)
class OwnRecord:
    """A picture or clip with its expressions."""

    item: OwnItem
    tracks: StoredTracks
    expressions: tuple[Expression, ...]
    absent: tuple[Expression, ...]  # expressions of nothing


class OwnDataset(StoredDataset[OwnRecord]):
    """Referring segmentation of own data; records are those with an expression, and those without any object.

    Attributes:
        annotations: what was read.
        own: settings.
    """

    def __init__(
        self, records: Sequence[OwnRecord], config: DrawConfig, own: OwnConfig, annotations: OwnAnnotations
    ) -> None:
        num_left_out = len(annotations.items) - len(records)
        super().__init__("own", records, config, {"nothing to ask for": num_left_out} if num_left_out else None)
        self.own, self.annotations = own, annotations

    def build_sample(self, record: OwnRecord, draw: Draw) -> Sample:
        chosen = []
        wanted = max(draw.config.num_expressions - bool(record.absent), 1)
        if record.expressions:
            chosen = [record.expressions[i] for i in draw.choose(len(record.expressions), wanted)]
        if record.absent and (not chosen or draw.rng.random() < self.own.absent_rate):
            chosen += [record.absent[i] for i in draw.choose(len(record.absent), 1)]
        turns, tracks = refer(chosen, record.tracks, draw)
        return Sample(media=(record.item.media,), turns=turns, tracks=tracks, task=self.name)

    def describe(self, record: OwnRecord) -> str:
        return f"{record.item.record.file}: {record.item.record.name} ({record.item.name})"

    def extent(self, index: int) -> Extent:
        record = self.records[index]
        texts = [len(one.text) for one in record.expressions or record.absent]
        num_turns = min(len(texts), self.config.num_expressions)
        return Extent(record.item.media.num_frames or 1, sum(texts) * num_turns // len(texts))


def build(
    path: str | Path, *, split: str = "train", draw: DrawConfig | None = None, own: OwnConfig | None = None
) -> OwnDataset:
    """Read own data of any format in own/catalog.py.

    Args:
        path: annotation file or folder of the dataset.
        split: "train", "val" or "all". Without a split of its own, a seeded share of the data is held out as "val".
        draw: settings of the draws.
        own: settings of own data.

    Raises:
        ValueError: the format is unknown, a record is damaged, or nothing is left to ask for.
    """
    draw, own = draw or DrawConfig(), own or OwnConfig()
    if split not in SPLITS:
        raise ValueError(f"own data: split is {split!r}; expected {', '.join(SPLITS)}")
    path = Path(path)
    found = read_annotations(path, split, own)
    items = add_expressions(found, path)
    if not found.is_split:
        items = split_items(items, split, own)
    is_complete = found.is_complete if own.complete is None else own.complete
    absent = _Absent("" if found.is_semantic else "the ")
    records = []
    for item in items:
        expressions = write_expressions(item, own, is_union=draw.groups == "union")
        asks_absent = own.category_names and own.absent_rate > 0 and (is_complete or item.absent is not None)
        missing = absent.of(write_absent(item, found.categories)) if asks_absent else ()
        if expressions or (missing and not item.objects):
            tracks = StoredTracks([one.frames for one in item.objects], item.media.height, item.media.width)
            records.append(OwnRecord(item, tracks, expressions, missing))
    if not any(record.expressions for record in records):
        raise ValueError(
            f"{path}: no object of the {len(items)} pictures or clips of split {split!r} can be named; give "
            "categories, a column of expressions or expressions.csv, or lower min_area"
        )
    return OwnDataset(records, draw, own, replace(found, items=items))


class _Absent:
    """Expressions of nothing, one object for each name however many records have it."""

    def __init__(self, article: str) -> None:
        self._article, self._made = article, dict[str, Expression]()

    def of(self, names: Sequence[str]) -> tuple[Expression, ...]:
        return tuple(self._made.setdefault(name, Expression(self._article + name, ())) for name in names)


def split_items(items: Sequence[OwnItem], split: str, own: OwnConfig) -> list[OwnItem]:
    """Hold out a seeded share of the items; at least one item is on each side.

    Raises:
        ValueError: there is nothing to divide.
    """
    if split == "all":
        return list(items)
    number = min(max(round(own.held_out * len(items)), 1), len(items) - 1) if own.held_out else 0
    if split == "val" and number < 1:
        raise ValueError(f"own data: held_out is {own.held_out} of {len(items)} pictures or clips, so none is held out")
    order = np.random.default_rng(own.seed).permutation(len(items))
    chosen = sorted(order[:number] if split == "val" else order[number:])
    return [items[index] for index in chosen]
