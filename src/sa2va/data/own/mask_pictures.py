"""Read own data as pictures with mask files of the same name, whose values are classes or objects.

Flow: folder with images and masks -> find, read -> OwnAnnotations.
Source: the layout of PASCAL VOC (JPEGImages, SegmentationClass, SegmentationObject, ImageSets/Segmentation), and its
    usual variants: images and masks, each with or within folders of the splits. A mask of classes alone does not tell
    objects apart, so that its expressions are bare names: "sky".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.data.media_files import StoredPicture
from sa2va.data.own.mask_regions import (
    UNDECIDED,
    Regions,
    describe_number,
    only_undecided,
    read_class_names,
    read_regions,
)
from sa2va.data.own.objects import OwnAnnotations, OwnConfig, OwnItem, OwnObject
from sa2va.data.own.sniff import SPLIT_WORDS, keep_part
from sa2va.data.records import Record
from sa2va.data.stored import read_each
from sa2va.files.read_limits import MAX_DATA_BYTES, MAX_PIXELS, list_folder, read_bounded
from sa2va.media.pictures import SUFFIXES, read_size

PICTURE_FOLDERS = ("images", "jpegimages", "imgs", "img")
CLASS_FOLDERS = ("masks", "mask", "segmentationclass", "annotations", "labels")
OBJECT_FOLDERS = ("instances", "segmentationobject")
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class _Place:
    """Folders of one split."""

    part: str | None  # "train", "val", "test"; None = all
    pictures: Path
    masks: Path  # of objects, or else of classes
    classes: Path | None  # beside masks of objects
    has_objects: bool


def find(path: Path) -> str | None:
    """Name what was found if the path holds pictures and masks of the same names."""
    places = _find_places(path)
    names = [f"{one.pictures.relative_to(path)} and {one.masks.relative_to(path)}" for one in places[:2]]
    return f"pictures with index masks ({', '.join(names)})" if names else None


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read the pictures of a split that have a mask.

    Raises:
        ValueError: a mask has no picture or another size, or holds a number without a name.
    """
    places = _find_places(path)
    if not places:
        raise ValueError(f"{path}: expected folders images and masks (or JPEGImages and SegmentationClass) of one name")
    places, is_split = keep_part([(one, one.part) for one in places], split)
    lists, wanted = _read_lists(path), None
    if not is_split and split != "all" and {"train", "val"} <= set(lists):
        wanted, is_split = lists[split], True
    files = [pair for place in places for pair in _pair_files(place, wanted)]
    names = read_class_names([path, *{folder for one in places for folder in (one.masks, one.masks.parent)}])
    regions = read_regions([(one.mask, one.classes) for one in files], keeps_zero=0 in names)
    is_semantic = not places[0].has_objects
    if only_undecided(regions) and is_semantic and len(set(names.values())) == 1:
        names = {UNDECIDED: next(iter(names.values()))}
    keeps_undecided = only_undecided(regions) or UNDECIDED in names
    reader = _Reader(path, names, is_semantic, keeps_undecided)
    items = read_each(lambda pair: reader.read(*pair), list(zip(files, regions, strict=True)))
    return OwnAnnotations(
        items=items,
        categories=tuple(dict.fromkeys(names.values())),
        is_split=is_split,
        is_complete=len(set(names.values())) > 1,
        is_semantic=is_semantic,
    )


def _find_places(path: Path) -> list[_Place]:
    """Find masks beside pictures, in the folder, in folders of the splits, or with folders of the splits inside."""
    if not path.is_dir():
        return []
    parts = [one for one in list_folder(path) if one.is_dir() and _part(one.name)]
    found = []
    for folder in (path, *parts):
        part = None if folder == path else _part(folder.name)
        found += _place(
            part, *(_subfolder(folder, names) for names in (PICTURE_FOLDERS, CLASS_FOLDERS, OBJECT_FOLDERS))
        )
    pictures, classes, objects = (_subfolder(path, names) for names in (PICTURE_FOLDERS, CLASS_FOLDERS, OBJECT_FOLDERS))
    for one in list_folder(pictures) if pictures else []:
        if one.is_dir() and (part := _part(one.name)):
            found += _place(part, one, *(folder and folder / one.name for folder in (classes, objects)))
    return sorted(found, key=lambda place: str(place.pictures))


def _place(part: str | None, pictures: Path | None, classes: Path | None, objects: Path | None) -> list[_Place]:
    """Return a place if its folders hold files of the same names."""
    has_objects = objects is not None and bool(_stems(objects, MASK_SUFFIXES))
    masks = objects if has_objects else classes
    if pictures is None or masks is None or not set(_stems(pictures, SUFFIXES)) & set(_stems(masks, MASK_SUFFIXES)):
        return []
    return [_Place(part, pictures, masks, classes if has_objects else None, has_objects)]


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    found = {one.name.lower(): one for one in list_folder(folder) if one.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _part(name: str) -> str | None:
    return SPLIT_WORDS.get(name.lower())


def _stems(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {one.stem: one for one in sorted(list_folder(folder)) if one.suffix.lower() in suffixes}


def _read_lists(path: Path) -> dict[str, list[str]]:
    """Read the names of each split's pictures from ImageSets/Segmentation."""
    folder = path / "ImageSets" / "Segmentation"
    files = [one for one in list_folder(folder) if one.suffix == ".txt" and _part(one.stem)] if folder.is_dir() else []
    return {
        _part(one.stem) or "": read_bounded(one, MAX_DATA_BYTES).decode("utf-8", "replace").split() for one in files
    }


@dataclass(frozen=True)
class _Files:
    """A picture and its masks."""

    picture: Path
    mask: Path
    classes: Path | None  # beside a mask of objects


def _pair_files(place: _Place, wanted: Sequence[str] | None) -> list[_Files]:
    pictures, masks = _stems(place.pictures, SUFFIXES), _stems(place.masks, MASK_SUFFIXES)
    classes = _stems(place.classes, MASK_SUFFIXES) if place.classes else {}

    def pair(name: str) -> _Files:
        for folder, files in ((place.pictures, pictures), (place.masks, masks)):
            if name not in files:
                raise ValueError(f"{folder}: there is no {name}; each mask needs a picture of the same name")
        if classes and name not in classes:
            raise ValueError(f"{place.classes}: there is no {name}; each mask of objects needs one of classes")
        return _Files(pictures[name], masks[name], classes.get(name))

    return read_each(pair, masks if wanted is None else wanted)


@dataclass(frozen=True)
class _Reader:
    root: Path
    names: dict[int, str]
    is_semantic: bool
    keeps_undecided: bool

    def read(self, files: _Files, regions: Regions) -> OwnItem:
        record = Record({}, files.mask, "mask")
        size, name = read_size(files.picture, MAX_PIXELS), files.picture.name
        if size != regions.size:
            height, width = regions.size
            raise record.error(f"it is {width}x{height}, and {name} is {size[1]}x{size[0]}; export it again")
        objects = tuple(
            OwnObject(
                id=describe_number(number),
                category=self._name(number, regions, record),
                frames=(rle,),
                is_region=self.is_semantic,
            )
            for number, rle in regions.rles.items()
            if number != UNDECIDED or self.keeps_undecided
        )
        place = files.picture.relative_to(self.root).as_posix()
        return OwnItem(record=record, name=place, media=StoredPicture(files.picture, size), objects=objects)

    def _name(self, number: int, regions: Regions, record: Record) -> str:
        """Return the class of a region; empty without names, or without masks of classes beside those of objects."""
        kind = number if self.is_semantic else regions.parents.get(number)
        if not self.names or kind is None:
            return ""
        if kind not in self.names:
            known = ", ".join(str(describe_number(one)) for one in list(self.names)[:8])
            what = "it has the value" if self.is_semantic else f"its object {describe_number(number)} is of class"
            raise record.error(f"{what} {describe_number(kind)}, which has no name; names are given to {known}")
        return self.names[kind]
