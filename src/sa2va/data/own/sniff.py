"""Recognize annotation files by their first and last bytes.

Flow: path -> kind_of_json, annotation_files -> the `find` functions of the readers -> own/catalog.py.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from sa2va.files.read_limits import list_folder

SNIFFED_BYTES = 65_536  # at each end of a file
# Folders that may hold annotation files below a dataset's own: train, valid and test are Roboflow's.
ANNOTATION_FOLDERS = ("annotations", "train", "valid", "val", "test")
T = TypeVar("T")
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def list_files(path: Path, suffix: str) -> list[Path]:
    """List the files of a suffix in a folder and its ANNOTATION_FOLDERS, sorted; or the path itself."""
    if not path.is_dir():
        return [path] if path.suffix.lower() == suffix and path.is_file() else []
    folders = [path, *(path / name for name in ANNOTATION_FOLDERS if (path / name).is_dir())]
    return sorted(file for folder in folders for file in list_folder(folder) if file.suffix.lower() == suffix)


def kind_of_json(path: Path) -> str | None:
    """Tell "coco", "labelme" or "list" from a JSON file's ends; None if it is neither."""
    text = read_ends(path)
    if text.lstrip().startswith("["):
        return "list" if re.search(r'"(image|mask)"\s*:', text) else None
    if re.search(r'"shapes"\s*:\s*\[', text) or '"imagePath"' in text:
        return "labelme"
    marks = {word for word in ("images", "annotations", "categories") if re.search(rf'"{word}"\s*:\s*\[', text)}
    return "coco" if len(marks) >= 2 or marks == {"annotations"} else None


def read_ends(path: Path) -> str:
    """Return the first and last SNIFFED_BYTES of a file as text."""
    try:
        with open(path, "rb") as file:
            head = file.read(SNIFFED_BYTES)
            file.seek(max(path.stat().st_size - SNIFFED_BYTES, len(head)))
            return (head + b"\n" + file.read(SNIFFED_BYTES)).decode("utf-8", "replace").lstrip("\ufeff")
    except OSError as error:
        raise ValueError(f"{path}: it cannot be read ({error.strerror})") from None


def keep_part(found: Sequence[tuple[T, str | None]], split: str) -> tuple[list[T], bool]:
    """Keep what belongs to a split.

    Args:
        found: items, each with its part: "train", "val", "test" or None.
        split: "train", "val" or "all".

    Returns:
        The items of that part and True; or else all but those of "test" and False, if "all" is asked for or there are
        not both "train" and "val".
    """
    if split != "all" and {"train", "val"} <= {part for _, part in found}:
        return [item for item, part in found if part == split], True
    return [item for item, part in found if part != "test"] or [item for item, _ in found], False


def split_of(path: Path, root: Path) -> str | None:
    """Tell "train", "val" or "test" from the name of a file, or else of its folder below the root."""
    names = [path.stem] if path.parent == root else [path.stem, path.parent.name]
    for name in names:
        for word in re.split(r"[^a-z]+", name.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None
