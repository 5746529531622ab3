"""Read own data as clips with a folder of mask files each, whose values are the objects.

Flow: folder with frames (or videos) and masks of each clip -> find, read -> OwnAnnotations.
Source: the layouts of DAVIS (JPEGImages/480p, Annotations/480p, ImageSets/2017) and YouTube-VOS (train/JPEGImages,
    train/Annotations, train/meta.json with the category of each object), and a folder per clip with frames and masks.
    Frames may also be a video <clip>.mp4, whose masks are named by the number of their frame, from 0. Frames without a
    mask file are not used.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sa2va.data.own.clip_media import VIDEO_SUFFIXES, choose_frames, number_files
from sa2va.data.own.mask_regions import UNDECIDED, Regions, describe_number, only_undecided, read_regions
from sa2va.data.own.objects import OwnAnnotations, OwnConfig, OwnItem, OwnObject, read_expressions
from sa2va.data.own.sniff import SPLIT_WORDS, keep_part
from sa2va.data.records import Record, read_object
from sa2va.data.stored import read_each
from sa2va.files.read_limits import MAX_DATA_BYTES, list_folder, read_bounded
from sa2va.media.pictures import SUFFIXES

FRAME_FOLDERS = ("jpegimages", "frames", "videos", "images")
MASK_FOLDERS = ("annotations", "masks")
SIZE_FOLDERS = ("480p", "full-resolution", "1080p")  # between, in DAVIS
OBJECT_FILES = ("meta.json", "objects.json", "categories.json", "davis_semantics.json")


@dataclass(frozen=True)
class _Clip:
    name: str
    part: str | None  # "train", "val", "test"; None = not told
    masks: Path  # folder
    media: Path  # folder of frames, or video file


@dataclass(frozen=True)
class _Known:
    """What a file of objects says about one object."""

    category: str = ""
    expressions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Clips:
    clips: list[_Clip] = field(default_factory=list)
    without_media: list[Path] = field(default_factory=list)  # folders of masks


def find(path: Path) -> str | None:
    """Name what was found if the path holds clips with folders of masks."""
    clips = _find_clips(path).clips
    return f"clips with index masks ({', '.join(one.name for one in clips[:4])})" if clips else None


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read the clips of a split.

    Raises:
        ValueError: a clip has no frames, or frames of another size than its masks.
    """
    found = _find_clips(path)
    if found.without_media:
        raise ValueError(f"{found.without_media[0]}: there are neither frames nor a video of this name; put them there")
    if not found.clips:
        raise ValueError(f"{path}: expected folders JPEGImages and Annotations (or videos and masks) with clips")
    listed = _read_lists(path)
    clips, is_split = keep_part([(one, one.part or listed.get(one.name)) for one in found.clips], split)
    known = _read_objects(path, clips)
    masks = read_each(_number_masks, clips)
    regions = read_regions([(file, None) for one in masks for file in one.values()])
    queue = iter(regions)
    items = read_each(
        lambda pair: _read_clip(*pair, known.get(pair[0].name, {})),
        [(clip, {number: next(queue) for number in numbered}) for clip, numbered in zip(clips, masks, strict=True)],
    )
    names = dict.fromkeys(one.category for item in items for one in item.objects if one.category)
    return OwnAnnotations(items=items, categories=tuple(names), is_split=is_split, is_complete=False)


def _find_clips(path: Path) -> _Clips:
    found = _Clips()
    if not path.is_dir():
        return found
    parts = [one for one in list_folder(path) if one.is_dir() and one.name.lower() in SPLIT_WORDS]
    for folder in (path, *sorted(parts)):
        frames, masks = _subfolder(folder, FRAME_FOLDERS), _subfolder(folder, MASK_FOLDERS)
        if frames is None or masks is None:
            continue
        part = None if folder == path else SPLIT_WORDS[folder.name.lower()]
        clips = [one for one in _list_folders(masks) if _holds(one, (".png",))]
        if any(one.name.lower() in SPLIT_WORDS for one in clips):
            continue  # pictures of the splits
        for one in clips:
            media = _find_media(frames, one.name)
            if media is None:
                found.without_media.append(frames / one.name)
            else:
                found.clips.append(_Clip(one.name, part, one, media))
    for folder in (path, *_list_folders(path)):
        if _holds(folder / "frames", SUFFIXES) and _holds(folder / "masks", (".png",)):
            found.clips.append(_Clip(folder.name, None, folder / "masks", folder / "frames"))
    return found if found.clips else _Clips()


def _holds(folder: Path, suffixes: Collection[str]) -> bool:
    return folder.is_dir() and any(file.suffix.lower() in suffixes for file in list_folder(folder))


def _list_folders(folder: Path) -> list[Path]:
    return sorted(one for one in list_folder(folder) if one.is_dir())


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first subfolder of some names, or its only folder of SIZE_FOLDERS."""
    found = {one.name.lower(): one for one in list_folder(folder) if one.is_dir()}
    chosen = next((found[name] for name in names if name in found), None)
    if chosen is None:
        return None
    sizes = [one for one in _list_folders(chosen) if one.name.lower() in SIZE_FOLDERS]
    return sizes[0] if len(sizes) == 1 else chosen


def _find_media(frames: Path, name: str) -> Path | None:
    places = [frames / name, *(frames / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)]
    return next((place for place in places if place.exists()), None)


def _number_masks(clip: _Clip) -> dict[int, Path]:
    return number_files(clip.masks, (".png",))


def _read_clip(clip: _Clip, regions: dict[int, Regions], known: dict[int, _Known]) -> OwnItem:
    record = Record({}, clip.masks, "masks")
    size = next(iter(regions.values())).size
    other = next((frame for frame, one in regions.items() if one.size != size), None)
    if other is not None:
        found = "x".join(str(side) for side in regions[other].size[::-1])
        raise record.error(f"that of frame {other} is {found}, and the first is {size[1]}x{size[0]}; export it again")
    left_out = set() if only_undecided(regions.values()) else {UNDECIDED}
    numbers = sorted({number for one in regions.values() for number in one.rles} - left_out)
    objects = [
        OwnObject(
            id=describe_number(number),
            category=known.get(number, _Known()).category,
            frames=tuple(one.rles.get(number) for one in regions.values()),
            expressions=known.get(number, _Known()).expressions,
        )
        for number in numbers
    ]
    media = choose_frames(clip.media, list(regions), size, record)
    return OwnItem(record=record, name=clip.name, media=media, objects=tuple(objects))


def _read_lists(path: Path) -> dict[str, str]:
    """Read the split of each clip from ImageSets, or the newest year below it."""
    folder = path / "ImageSets"
    if not folder.is_dir():
        return {}
    folder = max((one for one in _list_folders(folder) if one.name.isdecimal()), default=folder)
    found = {}
    for file in sorted(list_folder(folder)):
        if file.suffix == ".txt" and file.stem in SPLIT_WORDS:
            names = read_bounded(file, MAX_DATA_BYTES).decode("utf-8", "replace").split()
            found.update(dict.fromkeys(names, SPLIT_WORDS[file.stem]))
    return found


def _read_objects(path: Path, clips: Sequence[_Clip]) -> dict[str, dict[int, _Known]]:
    """Read categories and expressions of objects, by clip and number.

    A file holds {"videos": {clip: {"objects": {"1": {"category": "dog"}}}}}, or {clip: {"1": "dog"}}.

    Raises:
        ValueError: it is malformed.
    """
    folders = dict.fromkeys([path, *(one.masks.parent.parent for one in clips)])
    files = [folder / name for folder in folders for name in OBJECT_FILES if (folder / name).is_file()]
    found: dict[str, dict[int, _Known]] = {}
    for file in files:
        content = read_object(file)
        key = "videos" if "videos" in content.values else None
        of_clips = content.named_children("videos", "clip") if key else _children(content, "clip")
        for name, clip in of_clips:
            objects = (
                clip.named_children("objects", "object") if "objects" in clip.values else _children(clip, "object")
            )
            found.setdefault(name, {}).update({_number(one, number): _read_known(one) for number, one in objects})
    return found


def _children(record: Record, noun: str) -> list[tuple[str, Record]]:
    """Return the members of an object as records; a text is a category."""
    return [
        (name, Record({"category": one} if isinstance(one, str) else one, record.file, f"{noun} {name}"))
        for name, one in record.values.items()
    ]


def _number(record: Record, number: str) -> int:
    if not number.isdecimal():
        raise record.error("its name is no number; expected the value of its pixels in the masks")
    return int(number)


def _read_known(record: Record) -> _Known:
    return _Known(record.get("category", str, ""), read_expressions(record))
