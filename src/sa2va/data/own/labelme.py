"""Read own data of LabelMe: a JSON file beside each picture, with polygons and masks.

Flow: folder of JSON files, or one of them -> find, read -> OwnAnnotations.
Source: https://github.com/wkentaro/labelme: shapes of one `group_id` and label are parts of one object; a shape of
    type "mask" holds a PNG of its box. The description of a shape is an expression.
"""

import base64
import binascii
import io
from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.own.objects import (
    OwnAnnotations,
    OwnConfig,
    OwnItem,
    OwnObject,
    check_picture,
    read_expressions,
    skip_unmasked,
    to_rle,
)
from sa2va.data.own.sniff import SPLIT_WORDS, keep_part, kind_of_json, list_files
from sa2va.data.records import Record, read_object
from sa2va.data.stored import read_each
from sa2va.masks import RLE, encode_rle

PICTURE_FOLDERS = (".", "images", "JPEGImages", "..", "../images", "../JPEGImages")
SNIFFED_FILES = 20


def find(path: Path) -> str | None:
    """Name what was found if the path is or holds files of LabelMe."""
    files = list_files(path, ".json")
    found = [file for file in files[:SNIFFED_FILES] if kind_of_json(file) == "labelme"]
    return f"LabelMe ({found[0].name} and others)" if found else None


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read all files, or those in the folder of a split.

    Raises:
        ValueError: a file is malformed, or its picture is missing.
    """
    files = [file for file in list_files(path, ".json") if kind_of_json(file) == "labelme"]
    if not files:
        raise ValueError(f"{path}: no JSON file of LabelMe, with imagePath and shapes")
    # The folder tells, not the name: a picture of a train is not for training only.
    files, is_split = keep_part([(file, SPLIT_WORDS.get(file.parent.name)) for file in files], split)
    notes: dict[str, int] = defaultdict(int)
    folders: dict[Path, MediaFolders] = {}
    items = read_each(partial(_read_file, root=path, folders=folders, own=own, notes=notes), files)
    names = dict.fromkeys(one.category for item in items for one in item.objects)
    return OwnAnnotations(items=items, categories=tuple(names), is_split=is_split, is_complete=False, notes=dict(notes))


def _read_file(
    file: Path, root: Path, folders: dict[Path, MediaFolders], own: OwnConfig, notes: dict[str, int]
) -> OwnItem:
    content = read_object(file)
    if file.parent not in folders:
        folders[file.parent] = MediaFolders(*(file.parent / name for name in PICTURE_FOLDERS))
    name = content.text("imagePath").replace("\\", "/")
    found = folders[file.parent].find(PurePosixPath(name).name, content)
    if content.values.get("imageHeight") is None:  # older files
        picture = StoredPicture(found)
    else:
        picture = check_picture(found, content.size("imageHeight", "imageWidth"), content)
    grouped: dict[Any, list[tuple[Record, RLE | None]]] = defaultdict(list)
    for number, shape in enumerate(content.children("shapes", "shape"), 1):
        label, group = shape.text("label"), shape.values.get("group_id")
        if group is not None and not isinstance(group, int | str):
            raise shape.error(f"group_id is {group!r:.60}; expected a whole number or null")
        rle = _read_shape(shape, picture.size, own, notes)
        grouped[number if group is None else (label, str(group))].append((shape, rle))
    objects = [_build_object(shapes, number, picture.size) for number, shapes in enumerate(grouped.values(), 1)]
    place = file.relative_to(root).with_name(picture.path.name) if root.is_dir() else Path(picture.path.name)
    record = Record({}, file, "picture")  # the content may hold a copy of the picture
    return OwnItem(record=record, name=place.as_posix(), media=picture, objects=tuple(objects))


def _build_object(shapes: list[tuple[Record, RLE | None]], number: int, size: tuple[int, int]) -> OwnObject:
    """Unite the shapes of an object; without a mask if one of them has none."""
    rles = [rle for _, rle in shapes if rle is not None]
    first = shapes[0][0]
    mask = (rles[0] if len(rles) == 1 else to_rle(rles, *size, first)) if len(rles) == len(shapes) else None
    texts = [text for shape, _ in shapes for text in read_expressions(shape)]
    return OwnObject(id=number, category=first.text("label"), frames=(mask,), expressions=tuple(dict.fromkeys(texts)))


def _read_shape(shape: Record, size: tuple[int, int], own: OwnConfig, notes: dict[str, int]) -> RLE | None:
    kind = shape.get("shape_type", str, "polygon")
    if kind == "polygon":
        points = _read_points(shape)
        if len(points) < 3:
            raise shape.error(f"its polygon has {len(points)} points; expected 3 or more")
        return to_rle([points.ravel().tolist()], *size, shape)
    if kind == "mask":
        return _read_mask(shape, size)
    skip_unmasked(shape, kind, own, notes)
    return None


def _read_points(shape: Record) -> np.ndarray:
    """Return the points (K, 2) px of a shape."""
    values = shape.get("points", list)
    try:
        points = np.array(values, np.float64)
    except (ValueError, TypeError):
        points = np.zeros(0)
    if points.shape[1:] != (2,):
        raise shape.error(f"points is {values!r:.60}; expected pairs [x, y] in px")
    return points


def _read_mask(shape: Record, size: tuple[int, int]) -> RLE:
    """Paste the PNG of a mask into an empty mask of the picture's size."""
    points = _read_points(shape)
    if points.shape != (2, 2) or not np.isfinite(points).all():
        raise shape.error(f"points is {shape.values['points']!r:.60}; expected the two corners of the mask's box")
    x0, y0 = (int(round(value)) for value in points.min(0))
    try:
        content = base64.b64decode(shape.text("mask"), validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            width, height = image.size
            if x0 < 0 or y0 < 0 or x0 + width > size[1] or y0 + height > size[0]:
                raise shape.error(
                    f"its mask of {width}x{height} px at {x0},{y0} leaves the picture of {size[1]}x{size[0]}"
                )
            part = np.array(image.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise shape.error("its mask is not a PNG in base64") from None
    mask = np.zeros(size, bool)
    mask[y0 : y0 + height, x0 : x0 + width] = part
    return encode_rle(mask)
