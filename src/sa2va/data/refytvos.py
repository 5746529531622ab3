"""Read Refer-YouTube-VOS, and Ref-DAVIS17 in the same layout: one object per expression.

Flow: <folder>/{meta_expressions/<split>/meta_expressions.json, <split>/JPEGImages/<clip>/<frame>.jpg}, and masks from
    index pictures <split>/Annotations/<clip>/<frame>.png with <split>/meta.json, or from mask_dict.pkl
    -> ReferringClips.
Source: Seo et al., ECCV 2020. The keys of mask_dict.pkl count the expressions of all clips, each clip's in the order
    of their ids as texts ("10" before "2"). The masks of valid are on the server only.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sa2va.data.clips import (
    EXPRESSIONS,
    ClipExpression,
    ClipFiles,
    FrameClip,
    ReferringClips,
    build_unmasked_clip,
    find_clip,
    has_field,
    read_text,
    read_videos,
    store_tracks,
)
from sa2va.data.index_masks import IndexTracks
from sa2va.data.mask_dict import RunLengthTrack, read_mask_dict
from sa2va.data.media_files import MediaFolders
from sa2va.data.records import Record, read_object
from sa2va.data.stored import DrawConfig, check_split, read_each

SPLITS = ("train", "valid")
MASKS = "mask_dict.pkl"
Videos = Sequence[tuple[str, Record]]


def build(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringClips:
    """Read one split.

    Args:
        path: folder with meta_expressions/ and a folder per split.
        split: "train", or without masks "valid".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("refytvos", split, SPLITS)
    folder = Path(path)
    videos = read_videos(folder / "meta_expressions" / split / EXPRESSIONS)
    tests = folder / "meta_expressions" / "test" / EXPRESSIONS
    if split == "valid" and tests.exists():  # the file of valid also lists the clips of test
        tested = {name for name, _ in read_videos(tests)}
        videos = [(name, record) for name, record in videos if name not in tested]
    if split == "valid" and not has_field(videos, "obj_id"):
        media = MediaFolders(folder / split / "JPEGImages")
        records = read_each(lambda item: build_unmasked_clip(find_clip(*item, media)), videos)
    else:
        places = [folder / MASKS, folder / split / MASKS]
        records = read_object_clips(videos, folder / split, places, videos)
    return ReferringClips("refytvos", records, draw or DrawConfig())


def read_object_clips(videos: Videos, folder: Path, dictionaries: Sequence[Path], counted: Videos) -> list[FrameClip]:
    """Read clips with their masks, from index pictures where they are there.

    Args:
        videos: clips as read.
        folder: folder of the split, with JPEGImages and perhaps Annotations.
        dictionaries: places of mask_dict.pkl, tried in order.
        counted: the clips in the order in which the keys of mask_dict.pkl count their expressions.

    Raises:
        ValueError: there are no masks, or a clip is damaged.
    """
    media = MediaFolders(folder / "JPEGImages")
    build = _index_builder(folder) if (folder / "Annotations").is_dir() else _dictionary_builder(dictionaries, counted)
    return read_each(lambda item: build(find_clip(*item, media)), videos)


def _index_builder(folder: Path) -> Callable[[ClipFiles], FrameClip]:
    pictures = MediaFolders(folder / "Annotations")
    file = folder / "meta.json"
    known = dict(read_object(file).named_children("videos", "video")) if file.exists() else None

    def build(clip: ClipFiles) -> FrameClip:
        place = pictures.find(clip.video, clip.record)
        names = [f"{name}.png" for name in clip.frames]
        for name in names:
            if name not in pictures.names(place):
                raise clip.record.error(f"there is no {name} in {place}; expected an index picture per frame")
        values: dict[int, int] = {}
        expressions = []
        for name, expression in clip.expressions:
            value = _object_id(expression)
            if known is not None:
                listed = known[clip.video].get("objects", dict) if clip.video in known else {}
                if str(value) not in listed:
                    raise expression.error(f"there is no object {value} in {file.name}; the two do not belong together")
            row = values.setdefault(value, len(values))
            expressions.append(ClipExpression(text=read_text(expression), objects=(row,), id=name, number=value))
        return clip.clip(expressions, IndexTracks(place, names, list(values)))

    return build


def _object_id(expression: Record) -> int:
    """Return the number of the object of an expression, which is written as a text or as a number."""
    value = expression.get("obj_id", object)
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise expression.error(f"obj_id is {value!r:.60}; expected the number of an object, 1 or more")
    return number


def _dictionary_builder(places: Sequence[Path], counted: Videos) -> Callable[[ClipFiles], FrameClip]:
    file = next((place for place in places if place.exists()), None)
    if file is None:
        raise ValueError(f"{places[0]}: there is no such file, and no folder Annotations; fetch one of the two")
    keys = number_expressions(counted)
    masks = read_mask_dict(file)
    if masks.num_tracks != len(keys):
        raise ValueError(f"{file}: it has {masks.num_tracks} entries for {len(keys)} expressions; fetch both again")

    def build(clip: ClipFiles) -> FrameClip:
        tracks: dict[int, RunLengthTrack] = {}
        expressions = []
        for name, expression in clip.expressions:
            value = _object_id(expression)
            key = keys[clip.video, name]
            track = masks.track(key, len(clip.frames), expression)
            if tracks.setdefault(value, track) != track:
                raise expression.error(f"entry {key} of {file.name} differs from another of object {value}")
            row = list(tracks).index(value)
            expressions.append(ClipExpression(text=read_text(expression), objects=(row,), id=name, number=value))
        return clip.clip(expressions, store_tracks(clip, list(tracks.values())))

    return build


def number_expressions(videos: Iterable[tuple[str, Record]]) -> dict[tuple[str, str], int]:
    """Number the expressions (clip, id) of all clips as mask_dict.pkl does."""
    each = ((video, name) for video, record in videos for name in sorted(record.get("expressions", dict)))
    return {one: number for number, one in enumerate(each)}
