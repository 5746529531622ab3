"""Define what every format of own data is read into: pictures and clips with the objects on them.

Flow: a reader of own/ -> OwnAnnotations -> own/dataset.py, which writes the expressions.
Shapes: T annotated frames, 1 for a picture; H W picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sa2va.data.media_files import StoredPicture
from sa2va.data.records import Record
from sa2va.data.tracks import Segmentation, check_segmentation, encode_segmentation
from sa2va.files.read_limits import MAX_PIXELS
from sa2va.masks import RLE
from sa2va.media.pictures import read_size
from sa2va.types import FrameSource

EXPRESSION_FIELDS = ("expression", "expressions", "caption", "text", "description")


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    """Settings of own data."""

    format: str = "auto"  # name in own/catalog.py
    seed: int = 0  # of the split, where the format has none of its own
    held_out: float = 0.1  # share of pictures or clips held out as "val", where the format has no split of its own
    # Share of the picture; expressions of smaller objects are left out. Objects with one mask for all count together.
    min_area: float = 0.0
    margin: float = 0.05  # share of the picture's side by which objects must differ to be told apart by place
    category_names: bool = True  # write expressions from category names
    places: bool = True  # also "the left cat", where there are several
    max_members: int = 6  # masks of an expression of several objects, if each has a mask of its own
    absent_rate: float = 0.75  # share of conversations that also ask for an absent category
    complete: bool | None = None  # every object of every category is annotated; None = as the format promises
    unmasked: Literal["refuse", "skip"] = "refuse"  # boxes and points in place of a mask

    def __post_init__(self) -> None:
        for name in ("held_out", "min_area", "margin", "absent_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"own data: {name} is {getattr(self, name)}; expected a share from 0 to 1")
        if self.seed < 0 or self.max_members < 2:
            raise ValueError(f"own data: seed {self.seed} or max_members {self.max_members} is out of range")


@dataclass(frozen=True, kw_only=True)
class OwnObject:
    """An object of a picture or clip.

    An object without any mask is never asked for. It still counts: beside it, "the cat" would be ambiguous.
    """

    id: int | str  # as expressions.csv names it
    category: str  # name as annotated; empty = unknown
    frames: tuple[RLE | None, ...]  # T masks; None = not visible
    expressions: tuple[str, ...] = ()
    is_region: bool = False  # a crowd, or all of a class: one mask for any number of objects


@dataclass(frozen=True, kw_only=True)
class OwnItem:
    """A picture or clip."""

    record: Record  # its place, for messages
    name: str  # as expressions.csv names it
    media: FrameSource
    objects: tuple[OwnObject, ...]
    absent: frozenset[str] | None = None  # categories known to be absent; None = all others, if complete
    partial: frozenset[str] = frozenset()  # categories of which some objects are not annotated


@dataclass(frozen=True, kw_only=True)
class OwnAnnotations:
    """Pictures or clips of one format."""

    items: Sequence[OwnItem]
    categories: tuple[str, ...]  # all that the annotators looked for, as far as the format says
    is_split: bool  # whether the items are those of the wanted split only
    is_complete: bool  # whether every object of each category is annotated
    is_semantic: bool = False  # one mask for all of a class
    notes: Mapping[str, int] = field(default_factory=dict)  # counts worth knowing, such as skipped boxes


def check_picture(path: Path, size: tuple[int, int], record: Record) -> StoredPicture:
    """Return a picture of an annotated size, which is compared with its header.

    Args:
        path: the file.
        size: (H, W) px.
        record: names the place in errors.

    Raises:
        ValueError: the picture cannot be opened or has another size.
    """
    found = read_size(path, MAX_PIXELS)
    if found == size:
        return StoredPicture(path, size)
    shown = f"{path.name} is {found[1]}x{found[0]}"
    if found == size[::-1]:
        raise record.error(
            f"{shown} upright, and it was annotated lying; remove its EXIF orientation or turn the masks"
        )
    raise record.error(f"{shown}, and it is annotated as {size[1]}x{size[0]}; fetch the original file")


def to_rle(segmentation: Any, height: int, width: int, record: Record) -> RLE:
    """Encode an annotated segmentation as one binary mask.

    Args:
        segmentation: polygons in flat form, run lengths, or a list of run lengths.
        height, width: size of the picture, px.
        record: names the place in errors.

    Raises:
        ValueError: it cannot be parsed, or its size is not that of the picture.
    """
    checked: Segmentation = check_segmentation(segmentation, record)
    try:
        return encode_segmentation(checked, height, width)
    except (ValueError, TypeError) as error:
        raise record.error(str(error)) from error


def skip_unmasked(record: Record, kind: str, own: OwnConfig, notes: dict[str, int]) -> None:
    """Count an object that has a box, a point or a line in place of a mask.

    Raises:
        ValueError: such objects are to be refused.
    """
    if own.unmasked == "refuse":
        raise record.error(
            f"it is a {kind}, not a mask; add a mask or a polygon, or skip such objects with own.unmasked=skip"
        )
    notes[f"objects with a {kind} and no mask"] += 1


def read_expressions(record: Record) -> tuple[str, ...]:
    """Return the expressions of an annotation: a text or a list of texts in one of EXPRESSION_FIELDS.

    Raises:
        ValueError: such a field holds anything else.
    """
    found: list[str] = []
    for name in EXPRESSION_FIELDS:
        value = record.values.get(name)
        if value is None:
            continue
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise record.error(f"{name} is {value!r:.60}; expected a text or a list of texts")
        found += [" ".join(text.split()) for text in texts if text.strip()]
    return tuple(dict.fromkeys(found))
