"""Read masks stored as pictures whose pixel values are numbers of objects or classes.

Flow: PNG files -> read_regions -> number -> RLE, used by own/mask_pictures.py and own/mask_clips.py.
Source: the palette PNGs of PASCAL VOC and DAVIS. 0 is the background; 255 is undecided, or the object itself where a
    dataset has no other value. A picture in colors has the colors of VOC's palette, or those of labelmap.txt.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.data.index_masks import COLORED, read_indices
from sa2va.data.records import Record, read_annotations
from sa2va.data.stored import read_each
from sa2va.files.read_limits import MAX_DATA_BYTES, read_bounded
from sa2va.masks import RLE, encode_rle

UNDECIDED = 255
BORDER_COLOR = COLORED | 224 << 16 | 224 << 8 | 192  # of VOC's borders
MAX_REGIONS = 512  # a photograph in place of a mask has many more values
CLASS_FILES = ("classes.json", "classes.txt", "class_names.txt", "labels.txt", "names.txt", "labelmap.txt")
BACKGROUNDS = {"background", "_background_", "__background__", "bg"}


@dataclass(frozen=True)
class Regions:
    """Regions of one mask file."""

    size: tuple[int, int]  # (H, W) px
    rles: Mapping[int, RLE]  # by number; the background is left out
    parents: Mapping[int, int]  # number in a second mask that most pixels of a region have


def read_regions(files: Sequence[tuple[Path, Path | None]], *, keeps_zero: bool = False) -> list[Regions]:
    """Read mask files, in threads.

    Args:
        files: mask files, each with a second one or None; its numbers become the parents of the regions.
        keeps_zero: whether 0 is a class and not the background.

    Raises:
        ValueError: a file cannot be read or is no mask, or two masks of a picture differ in size.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return read_each(lambda found: found.result(), [pool.submit(_read, *pair, keeps_zero) for pair in files])


def only_undecided(regions: Iterable[Regions]) -> bool:
    """Tell whether the masks are binary: 0 and 255, so that 255 is the object."""
    return {number for one in regions for number in one.rles} == {UNDECIDED}


def _read(file: Path, other: Path | None, keeps_zero: bool) -> Regions:
    numbers = read_indices(file, colors=True)
    left_out = {BORDER_COLOR} if keeps_zero else {0, BORDER_COLOR}
    found = [int(number) for number in np.unique(numbers) if number not in left_out]
    if len(found) > MAX_REGIONS:
        raise ValueError(f"{file}: it has {len(found)} values; expected a mask of at most {MAX_REGIONS} objects")
    rles = {number: encode_rle(numbers == number) for number in found}
    if other is None:
        return Regions(numbers.shape, rles, {})
    classes = read_indices(other, colors=True)
    if classes.shape != numbers.shape:
        raise ValueError(f"{other}: it has shape {classes.shape}, and {file.name} has {numbers.shape}; export it again")
    return Regions(numbers.shape, rles, {number: _most_common(classes[numbers == number]) for number in found})


def _most_common(values: NDArray[Any]) -> int:
    numbers, counts = np.unique(values[(values != UNDECIDED) & (values != BORDER_COLOR)], return_counts=True)
    return int(numbers[counts.argmax()]) if len(numbers) else 0


def read_class_names(folders: Sequence[Path]) -> dict[int, str]:
    """Read the names of numbers from one of CLASS_FILES; empty if there is none.

    A JSON file holds {"1": "cat"} or a list. A list and a text file name the numbers from 1, or from 0 if the first is
    the background. Their colors are those of VOC's palette. labelmap.txt has "name:red,green,blue" per line.

    Raises:
        ValueError: the file is malformed.
    """
    files = [folder / name for folder in folders for name in CLASS_FILES if (folder / name).is_file()]
    if not files:
        return {}
    file = files[0]
    if file.suffix == ".json":
        names = _read_json_names(file)
    else:
        try:
            lines = read_bounded(file, MAX_DATA_BYTES).decode("utf-8-sig").splitlines()
        except UnicodeError:
            raise ValueError(f"{file}: it is not text in UTF-8") from None
        lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if file.name == "labelmap.txt" and not all(line.endswith(":::") for line in lines):
            return _without_background(_read_colors(file, lines))
        lines = [line.removesuffix(":::") for line in lines]
        names = dict(enumerate(lines, _first_number(lines)))
    return _without_background(names | {_palette_color(number): name for number, name in names.items()})


def describe_number(number: int) -> int | str:
    """Return a value as it is, and a color as the text "red,green,blue"."""
    return number if number < COLORED else f"{number >> 16 & 255},{number >> 8 & 255},{number & 255}"


def _without_background(names: dict[int, str]) -> dict[int, str]:
    return {number: name for number, name in names.items() if name.lower() not in BACKGROUNDS}


def _palette_color(number: int) -> int:
    """Return the color of a class in VOC's palette, whose bits are spread over red, green and blue."""
    channels = [sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3)]
    return COLORED | channels[0] << 16 | channels[1] << 8 | channels[2]


def _first_number(names: Sequence[str]) -> int:
    return 0 if names and names[0].lower() in BACKGROUNDS else 1


def _read_json_names(file: Path) -> dict[int, str]:
    values = read_annotations(file)
    if isinstance(values, list):
        names = dict(enumerate(values, _first_number([str(value) for value in values])))
    else:
        record = Record(values, file, "file")
        if not all(number.isdecimal() for number in record.values):
            raise record.error(f"its keys are {list(record.values)[:3]}; expected numbers, as in {{'1': 'cat'}}")
        names = {int(number): name for number, name in record.values.items()}
    if not all(isinstance(name, str) and name.strip() for name in names.values()):
        raise ValueError(f"{file}: expected a name for each number, as in {{'1': 'cat'}}")
    return names


def _read_colors(file: Path, lines: Sequence[str]) -> dict[int, str]:
    names = {}
    for line in lines:
        name, _, rest = line.partition(":")
        parts = rest.partition(":")[0].split(",")
        if not name or len(parts) != 3 or not all(part.strip().isdecimal() and int(part) < 256 for part in parts):
            raise ValueError(f"{file}: its line is {line!r:.60}; expected name:red,green,blue")
        red, green, blue = (int(part) for part in parts)
        names[COLORED | red << 16 | green << 8 | blue] = name
    return names
