"""Read own data of CVAT: XML for images and XML for video 1.1, with polygons and masks.

Flow: annotations.xml or its folder -> find, read -> OwnAnnotations.
Source: https://docs.cvat.ai/docs/other/xml_format. A mask holds the row-major run lengths of its box, which start with
    zeros. Shapes of one group and label are parts of one object, as in CVAT's own COCO export. An attribute named
    "expression" (or another of EXPRESSION_FIELDS) is an expression.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from sa2va.data.media_files import MediaFolders
from sa2va.data.own.clip_media import VIDEO_SUFFIXES, choose_frames
from sa2va.data.own.objects import (
    EXPRESSION_FIELDS,
    OwnAnnotations,
    OwnConfig,
    OwnItem,
    OwnObject,
    check_picture,
    read_expressions,
    skip_unmasked,
    to_rle,
)
from sa2va.data.own.sniff import SPLIT_WORDS, keep_part, list_files, read_ends, split_of
from sa2va.data.own.xml_tree import Tag, read_xml
from sa2va.data.records import Record
from sa2va.data.stored import read_each
from sa2va.files.read_limits import list_folder
from sa2va.masks import RLE, encode_rle

SHAPES = ("polygon", "mask", "box", "polyline", "points", "ellipse", "cuboid", "skeleton")
PICTURE_FOLDERS = ("", "images", "data")
SETTINGS = ("task", "project", "job")  # elements of meta that list the labels


def find(path: Path) -> str | None:
    """Name what was found if the path is or holds XML of CVAT."""
    files = _list(path)
    return f"CVAT XML ({', '.join(file.name for file in files[:4])})" if files else None


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read the files of a path; a split is that of the files' names or of the images' subsets.

    Raises:
        ValueError: a file is malformed, or a picture is missing.
    """
    files = _list(path)
    if not files:
        raise ValueError(f"{path}: no XML file of CVAT, with annotations and image or track")
    notes: dict[str, int] = defaultdict(int)
    names: dict[str, None] = {}
    items: list[OwnItem] = []
    parts: list[str | None] = []
    for file in files:
        root = read_xml(file)
        names.update(dict.fromkeys(_read_labels(root)))
        images = root.all("image")
        items += read_each(_Images(file, own, notes).read, images)
        parts += [SPLIT_WORDS.get(tag.record.values.get("subset", "").lower(), split_of(file, path)) for tag in images]
        if root.all("track"):
            items.append(_read_clip(file, root, own, notes))
            parts.append(split_of(file, path))
    kept, is_split = keep_part(list(zip(items, parts, strict=True)), split)
    return OwnAnnotations(
        items=kept, categories=tuple(names), is_split=is_split, is_complete=len(names) > 1, notes=dict(notes)
    )


def _list(path: Path) -> list[Path]:
    found = []
    for file in list_files(path, ".xml"):
        text = read_ends(file)
        if "<annotations>" in text and ("<image" in text or "<track" in text):
            found.append(file)
    return found


def _read_labels(root: Tag) -> list[str]:
    settings = [tag for meta in root.all("meta") for tag in meta.all(*SETTINGS)]
    labels = [label for tag in settings for group in tag.all("labels") for label in group.all("label")]
    return [name.text.strip() for label in labels for name in label.all("name") if name.text.strip()]


class _Images:
    """Pictures of one file."""

    def __init__(self, file: Path, own: OwnConfig, notes: dict[str, int]) -> None:
        self._folders = MediaFolders(*(file.parent / name for name in PICTURE_FOLDERS))
        self._own, self._notes = own, notes

    def read(self, tag: Tag) -> OwnItem:
        """Read an image element."""
        name = tag.record.text("name").replace("\\", "/")
        size = tag.integer("height"), tag.integer("width")
        record = Record(tag.record.values, tag.record.file, f"{tag.record.name} {name}")
        if min(size) < 1:
            raise record.error(f"height and width are {size[0]} and {size[1]}; expected at least 1 px")
        last = PurePosixPath(name).name
        by_last = any(last in self._folders.names(root) for root in self._folders.roots)
        picture = check_picture(self._folders.find(last if by_last else name, record), size, record)
        grouped: dict[object, list[Tag]] = defaultdict(list)
        for number, shape in enumerate(tag.all(*SHAPES)):
            group = shape.record.values.get("group_id", "0")
            grouped[number if group == "0" else (shape.record.values.get("label"), group)].append(shape)
        shapes = enumerate(grouped.values(), 1)
        objects = read_each(lambda one: _read_object(*one, size, self._own, self._notes), shapes)
        return OwnItem(record=record, name=name, media=picture, objects=tuple(objects))


def _read_object(
    number: int, shapes: list[Tag], size: tuple[int, int], own: OwnConfig, notes: dict[str, int]
) -> OwnObject:
    """Unite the shapes of an object; without a mask if one of them has none."""
    rles = read_each(lambda tag: (_read_shape(tag, size, own, notes),), shapes)
    found = [rle for (rle,) in rles if rle is not None]
    return OwnObject(
        id=number,
        category=shapes[0].record.text("label"),
        frames=(to_rle(found, *size, shapes[0].record) if len(found) == len(shapes) else None,),
        expressions=tuple(dict.fromkeys(text for tag in shapes for text in _read_attributes(tag))),
    )


def _read_attributes(tag: Tag) -> tuple[str, ...]:
    found = {
        one.record.values.get("name", "").lower(): one.text.strip() for one in tag.all("attribute") if one.text.strip()
    }
    values = {name: found[name] for name in EXPRESSION_FIELDS if name in found}
    return read_expressions(Record(values, tag.record.file, tag.record.name))


def _read_shape(tag: Tag, size: tuple[int, int], own: OwnConfig, notes: dict[str, int]) -> RLE | None:
    if tag.name == "polygon":
        try:
            points = [float(value) for pair in tag.record.text("points").split(";") for value in pair.split(",")]
        except ValueError:
            raise tag.record.error(f"points is {tag.record.values['points']!r:.60}; expected x,y;x,y;...") from None
        return to_rle([points], *size, tag.record)
    if tag.name == "mask":
        return _read_mask(tag, size)
    skip_unmasked(tag.record, tag.name, own, notes)
    return None


def _read_mask(tag: Tag, size: tuple[int, int]) -> RLE:
    left, top, width, height = (tag.integer(key) for key in ("left", "top", "width", "height"))
    if left + width > size[1] or top + height > size[0]:
        raise tag.record.error(
            f"its mask of {width}x{height} px at {left},{top} leaves the picture of {size[1]}x{size[0]}"
        )
    try:
        runs = np.array([int(run) for run in tag.record.text("rle").split(",")])
    except ValueError:
        raise tag.record.error(f"rle is {tag.record.values['rle']!r:.60}; expected run lengths") from None
    if (runs < 0).any() or runs.sum() != width * height:
        raise tag.record.error(f"rle covers {runs.sum()} px; expected {width}x{height}, its box")
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(
        height, width
    )
    return encode_rle(mask)


def _read_clip(file: Path, root: Tag, own: OwnConfig, notes: dict[str, int]) -> OwnItem:
    """Read all tracks of a file as one clip, on the frames where each of them is annotated."""
    record = Record(root.record.values, file, "tracks")
    sizes = [tag for meta in root.all("meta") for tag in meta.below("original_size")]
    if len({(one.all("width")[0].text, one.all("height")[0].text) for one in sizes if one.children}) != 1:
        raise record.error("expected one original_size in meta; export each task by itself, as CVAT for video")
    size = _read_size(sizes[0], record)
    tracks = root.all("track")
    shapes = read_each(lambda track: _read_track(track, size, own, notes), tracks)
    frames = _annotated_frames(tracks)
    if not frames:
        raise record.error("on no frame are all tracks annotated; export it again as CVAT for video")
    objects = [replace(one, frames=tuple(found.get(frame) for frame in frames)) for one, found in shapes]
    sources = [tag.text.strip() for meta in root.all("meta") for tag in meta.below("source") if tag.text.strip()]
    place = _find_clip(file, sources, record)
    media = choose_frames(place, frames, size, record)
    name = PurePosixPath(sources[0].replace("\\", "/")).name if sources else file.stem
    return OwnItem(record=record, name=name, media=media, objects=tuple(objects))


def _read_size(tag: Tag, record: Record) -> tuple[int, int]:
    texts = [one.text.strip() for name in ("height", "width") for one in tag.all(name)]
    if len(texts) != 2 or not all(text.isdecimal() and int(text) for text in texts):
        raise record.error(f"original_size is {' x '.join(texts) or 'empty'}; expected height and width in px")
    return int(texts[0]), int(texts[1])


def _read_track(
    track: Tag, size: tuple[int, int], own: OwnConfig, notes: dict[str, int]
) -> tuple[OwnObject, dict[int, RLE | None]]:
    """Return an object without its masks, and its masks by frame."""
    shapes = track.all(*SHAPES)
    visible = {
        tag.integer("frame"): _read_shape(tag, size, own, notes)
        for tag in shapes
        if tag.record.values.get("outside", "0") != "1"
    }
    texts = dict.fromkeys(text for tag in (track, *shapes) for text in _read_attributes(tag))
    number = track.record.values.get("id", "")
    found = OwnObject(
        id=int(number) if number.isdecimal() else number,
        category=track.record.text("label"),
        frames=(),
        expressions=tuple(texts),
    )
    return found, visible


def _annotated_frames(tracks: Sequence[Tag]) -> list[int]:
    """List the frames on which the state of every track is known.

    CVAT writes every frame of a track, and ends it with a shape that is outside. Frames that a file leaves out between
    two shapes, or after a last visible one, are not used.
    """
    listed: set[int] = set()
    unknown: list[tuple[int, float]] = []  # frames strictly between two numbers
    for track in tracks:
        states = sorted(
            (tag.integer("frame"), tag.record.values.get("outside", "0") == "1") for tag in track.all(*SHAPES)
        )
        listed.update(frame for frame, _ in states)
        ends = [*(frame for frame, _ in states[1:]), float("inf")][: len(states)]
        unknown += [(frame, end) for (frame, outside), end in zip(states, ends, strict=True) if not outside]
    return [frame for frame in sorted(listed) if not any(start < frame < end for start, end in unknown)]


def _find_clip(file: Path, sources: Sequence[str], record: Record) -> Path:
    """Find the frames of a clip below the file, or the video that it names, or the only one beside it."""
    names = [PurePosixPath(source.replace("\\", "/")).name for source in sources]
    beside = [one for folder in PICTURE_FOLDERS if (file.parent / folder).is_dir()
              for one in list_folder(file.parent / folder)]  # fmt: skip
    videos = sorted(one for one in beside if one.suffix.lower() in VIDEO_SUFFIXES)
    named = [one for one in videos if one.name in names] or (videos if len(videos) == 1 else [])
    if named:
        return named[0]
    for folder in (file.parent / "images", file.parent / file.stem):
        if folder.is_dir():
            return folder
    wanted = names[0] if names else "a video"
    raise record.error(f"there is neither {wanted} nor a folder images beside it; put the video or its frames there")
