"""Read own data in the released fine-tuning format: annotations.json with polygons and a text per object.

Flow: annotations.json or its folder -> find, read (through data/own_list.py) -> OwnAnnotations.
"""

from pathlib import Path

from sa2va.data import own_list
from sa2va.data.own.objects import OwnAnnotations, OwnConfig, OwnItem, OwnObject
from sa2va.data.own.sniff import kind_of_json
from sa2va.data.records import Record
from sa2va.data.referring import ReferredPicture
from sa2va.data.stored import read_each
from sa2va.masks import encode_rle


def find(path: Path) -> str | None:
    """Name what was found if the path is or holds a list of pictures with a text per object."""
    file = path / own_list.ANNOTATIONS if path.is_dir() else path
    if file.name != own_list.ANNOTATIONS or not file.is_file() or kind_of_json(file) != "list":
        return None
    return f"texts of objects ({file.name})"


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read all pictures; the format has no splits and no categories.

    Raises:
        ValueError: as `own_list.own_list`.
    """
    found = own_list.own_list(path if path.is_dir() else path.parent)
    items = read_each(_convert, found.records)
    return OwnAnnotations(items=items, categories=(), is_split=False, is_complete=False)


def _convert(picture: ReferredPicture) -> OwnItem:
    record = Record({}, picture.file, f"picture {picture.image_id}")
    try:
        masks = picture.tracks.masks(range(len(picture.tracks)), [0])[:, 0]
    except ValueError as error:
        raise record.error(str(error)) from error
    objects = tuple(
        OwnObject(
            id=row,
            category="",
            frames=(encode_rle(mask),),
            expressions=tuple(one.text for one in picture.expressions if row in one.objects),
        )
        for row, mask in enumerate(masks)
    )
    return OwnItem(record=record, name=str(picture.image_id), media=picture.picture, objects=objects)
