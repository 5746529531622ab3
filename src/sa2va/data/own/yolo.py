"""Read own data in the YOLO segmentation layout: data.yaml, pictures, and a text file of polygons for each picture.

Flow: data.yaml or its folder -> find, read -> OwnAnnotations.
Source: https://docs.ultralytics.com/datasets/segment: lines "class x0 y0 x1 y1 ..." as shares of width and height. A
    picture without a text file shows nothing. We read the file with yaml.safe_load, which builds plain values only.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sa2va.data.media_files import StoredPicture
from sa2va.data.own.objects import OwnAnnotations, OwnConfig, OwnItem, OwnObject, skip_unmasked, to_rle
from sa2va.data.own.sniff import read_ends
from sa2va.data.records import Record
from sa2va.data.stored import read_each
from sa2va.files.read_limits import MAX_ENTRIES, list_folder, read_bounded
from sa2va.media.pictures import SUFFIXES

MAX_YAML_BYTES = 2**20
MAX_LABEL_BYTES = 2**26
REACH = 0.01  # share of the picture by which a point may lie outside


def find(path: Path) -> str | None:
    """Name what was found if the path is or holds the description of a YOLO dataset."""
    files = _descriptions(path)
    return f"YOLO segmentation ({', '.join(file.name for file in files[:4])})" if files else None


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read the pictures of a split, or those of "train" if there is no "val".

    Raises:
        ValueError: the description or a text file of polygons is malformed, or several descriptions may be meant.
    """
    files = _descriptions(path)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"{path}: expected one YAML file with train and names, found {found}; name one file")
    description = _read_yaml(files[0])
    names = _read_names(description)
    is_split = split != "all" and description.values.get("val") is not None
    parts = [split] if is_split else ["train"]
    if split == "all":
        parts += ["val"] if description.values.get("val") is not None else []
    pictures = [picture for part in parts for picture in _list_pictures(description, part)]
    notes: dict[str, int] = defaultdict(int)
    labels = _LabelFiles()
    items = read_each(partial(_read_picture, names=names, root=files[0].parent, labels=labels, own=own, notes=notes),
                      pictures)  # fmt: skip
    if items and not any(item.objects for item in items):
        raise ValueError(f"{files[0]}: none of its {len(items)} pictures has a label file such as {labels.last}")
    return OwnAnnotations(
        items=items, categories=tuple(names.values()), is_split=is_split, is_complete=len(names) > 1, notes=dict(notes)
    )


def _descriptions(path: Path) -> list[Path]:
    files = list_folder(path) if path.is_dir() else [path]
    files = sorted(file for file in files if file.suffix.lower() in {".yaml", ".yml"} and file.is_file())
    return [
        file for file in files if {"train", "names"} <= {line.split(":")[0] for line in read_ends(file).split("\n")}
    ]


def _read_yaml(file: Path) -> Record:
    try:
        values = yaml.safe_load(read_bounded(file, MAX_YAML_BYTES))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).removeprefix(f"{file}: ").split())
        raise ValueError(f"{file}: it is not valid YAML ({reason:.120})") from None
    return Record(values, file, "file")


def _read_names(description: Record) -> dict[int, str]:
    names: Any = description.values.get("names")
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    if not pairs or not all(
        isinstance(number, int) and isinstance(name, str) and name.strip() for number, name in pairs
    ):
        raise description.error(f"names is {names!r:.60}; expected a list of names, or names by number")
    return dict(pairs)


def _list_pictures(description: Record, part: str) -> list[Path]:
    """List the pictures of a split: folders, text files that list pictures, or a list of these."""
    entries = description.values.get(part)
    entries = entries if isinstance(entries, list) else [entries]
    pictures: list[Path] = []
    for entry in entries:
        if not isinstance(entry, str) or not entry.strip() or "\0" in entry:
            raise description.error(f"{part} is {entry!r:.60}; expected a folder of pictures")
        place = _resolve(description, entry)
        if place.is_file() and place.suffix == ".txt":
            lines = read_bounded(place, MAX_LABEL_BYTES).decode("utf-8", "replace").splitlines()
            pictures += [_resolve_line(place, line.strip()) for line in lines if line.strip()]
        elif place.is_dir():
            pictures += _walk(place)
        else:
            raise description.error(f"{part} is {entry!r}, and there is no folder {place}; correct the path")
    if not pictures:
        raise description.error(f"{part}: there is no picture in {', '.join(str(entry) for entry in entries)}")
    return pictures


def _resolve(description: Record, entry: str) -> Path:
    """Return the first existing place of a path: below `path`, or below the folder of the description.

    Roboflow writes "../train/images" for a folder beside the description.
    """
    folder = description.file.parent
    base = description.values.get("path")
    roots = [folder / base, folder] if isinstance(base, str) and base.strip() else [folder]
    places = [root / name for root in roots for name in dict.fromkeys((entry, entry.removeprefix("../")))]
    return next((place for place in places if place.exists()), places[-1])


def _resolve_line(listing: Path, line: str) -> Path:
    place = listing.parent / line
    if not place.is_file():
        raise ValueError(f"{listing}: there is no picture {line!r:.80}; fetch it or remove the line")
    return place


def _walk(folder: Path) -> list[Path]:
    pictures: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        pictures += sorted(Path(parent, name) for name in names if Path(name).suffix.lower() in SUFFIXES)
        if len(pictures) > MAX_ENTRIES:
            raise ValueError(f"{folder}: more than the {MAX_ENTRIES} pictures allowed; divide it")
    return pictures


class _LabelFiles:
    """Text files of polygons: in the folder "labels" beside "images", or else beside the picture."""

    def __init__(self) -> None:
        self._listed: dict[Path, frozenset[str]] = {}
        self.last = Path()

    def find(self, picture: Path) -> Path | None:
        parts = list(picture.parts)
        for place in range(len(parts) - 2, -1, -1):
            if parts[place] == "images":
                parts[place] = "labels"
                break
        self.last = file = Path(*parts).with_suffix(".txt")
        if file.parent not in self._listed:
            names = list_folder(file.parent) if file.parent.is_dir() else []
            self._listed[file.parent] = frozenset(one.name for one in names)
        return file if file.name in self._listed[file.parent] else None


def _read_picture(
    path: Path, *, names: dict[int, str], root: Path, labels: _LabelFiles, own: OwnConfig, notes: dict[str, int]
) -> OwnItem:
    picture = StoredPicture(path)
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    file, lines = labels.find(path), list[str]()
    if file is not None and file.stat().st_size:
        lines = read_bounded(file, MAX_LABEL_BYTES).decode("utf-8", "replace").splitlines()
    records = [Record({"values": line.split()}, file or path, f"line {i}") for i, line in enumerate(lines, 1)]
    objects = read_each(
        lambda one: _read_line(one, picture, names, own, notes), [one for one in records if one.values["values"]]
    )
    return OwnItem(record=Record({}, path, "picture"), name=name, media=picture, objects=tuple(objects))


def _read_line(
    line: Record, picture: StoredPicture, names: dict[int, str], own: OwnConfig, notes: dict[str, int]
) -> OwnObject:
    words: Sequence[str] = line.values["values"]
    try:
        category, points = int(words[0]), np.array([float(word) for word in words[1:]])
    except ValueError:
        raise line.error(
            f"it is {' '.join(words)!r:.60}; expected a class number and shares of width and height"
        ) from None
    if category not in names:
        raise line.error(f"class {category} has no name; expected one of {min(names)} to {max(names)}")
    number = int(line.name.removeprefix("line "))
    if len(points) == 4:
        skip_unmasked(line, "box", own, notes)
        return OwnObject(id=number, category=names[category], frames=(None,))
    if len(points) < 6 or len(points) % 2:
        raise line.error(f"it has {len(points)} numbers after the class; expected pairs x y, 3 points or more")
    if not ((points >= -REACH) & (points <= 1 + REACH)).all():
        raise line.error(f"a coordinate is {points[np.argmax(np.abs(points - 0.5))]:g}; expected shares from 0 to 1")
    height, width = picture.size
    polygon = (points.reshape(-1, 2) * (width, height)).ravel().tolist()
    return OwnObject(id=number, category=names[category], frames=(to_rle([polygon], height, width, line),))
