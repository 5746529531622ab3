"""Read referring segmentation of clips: meta_expressions.json and folders of frames.

Flow: a reader of one dataset (mevis.py, revos.py, refytvos.py, davis.py, refsav.py) -> ReferredClip, one per clip with
    all its expressions -> ReferringClips -> Sample.
Source: the layout of Refer-YouTube-VOS (Seo et al., ECCV 2020), which MeViS (arXiv:2308.08544) and others share:
    {"videos": {clip: {"frames": [name, ...], "expressions": {id: {"exp": text, ...}}}}}. The released training draws
    expressions with replacement; here none is repeated before all were used.
Shapes: T frames of a clip.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va.data.index_masks import IndexTracks
from sa2va.data.mask_dict import MaskDict, RunLengthTrack
from sa2va.data.media_files import MediaFolders, StoredFrames
from sa2va.data.records import Record, read_object
from sa2va.data.referring import Expression, draw_expressions, refer
from sa2va.data.stored import Draw, Extent, StoredDataset, read_each
from sa2va.data.tracks import StoredTracks
from sa2va.files.read_limits import MAX_PIXELS
from sa2va.media.pictures import read_size
from sa2va.types import FrameSource, MaskTracks, Sample

ClipTracks = StoredTracks | IndexTracks
FRAME_SUFFIX = ".jpg"
EXPRESSIONS = "meta_expressions.json"


@dataclass(frozen=True, kw_only=True)
class ClipExpression(Expression):
    """Expression of a clip, with what an evaluation needs to know about it."""

    id: str
    type_id: int | None = None  # ReVOS: 0 referring, 1 reasoning, 2 nothing; Ref-SAV: 0 long, 1 short
    annotator: int | None = None  # Ref-DAVIS17: 0..3, who described the object
    number: int | None = None  # Refer-YouTube-VOS, Ref-DAVIS17: of its object in index pictures, 1 or more


@dataclass(frozen=True, kw_only=True)
class ReferredClip(ABC):
    """A clip with its expressions."""

    file: Path  # annotation file, for messages
    video: str  # name of the clip
    expressions: tuple[ClipExpression, ...]

    @abstractmethod
    def open(self) -> tuple[FrameSource, MaskTracks]:
        """Return its frames, and the masks of all its objects.

        Raises:
            ValueError: its masks are not published, or frames and masks do not belong together.
        """

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """T, estimated where that needs no decoding."""

    @property
    def distinct(self) -> list[ClipExpression]:
        """Expressions without those that repeat text and objects of another, as several annotators write them."""
        return list({(one.text, one.objects): one for one in reversed(self.expressions)}.values())[::-1]


@dataclass(frozen=True, kw_only=True)
class FrameClip(ReferredClip):
    """A clip whose frames are picture files.

    Attributes:
        folder: folder of the frames.
        frames: T names without suffix, sorted: a submission names its masks after them.
        tracks: masks of its objects; None if they are not published.
        foreground: masks of all objects as one, for the robustness score of ReVOS.
    """

    folder: Path
    frames: tuple[str, ...]
    tracks: ClipTracks | None
    foreground: MaskTracks | None = None

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def media(self) -> StoredFrames:
        """Return its frames, which are checked for the size of the masks when they are decoded."""
        size = (self.tracks.height, self.tracks.width) if self.tracks is not None else None
        return StoredFrames([self.folder / f"{name}{FRAME_SUFFIX}" for name in self.frames], size)

    def open(self) -> tuple[FrameSource, MaskTracks]:
        if self.tracks is None:
            raise ValueError("the masks of this split are not published; train on the split train")
        return self.media(), self.tracks


class ReferringClips(StoredDataset[ReferredClip]):
    """Referring segmentation of clips.

    `meta` of a sample has "video", and per turn its "expressions" (ids) and "type_ids".
    """

    def build_sample(self, record: ReferredClip, draw: Draw) -> Sample:
        frames, tracks = record.open()
        distinct = record.distinct
        turns, drawn = refer(distinct, tracks, draw)
        chosen = draw_expressions(distinct, draw)
        meta = {
            "video": record.video,
            "expressions": [one.id for one in chosen],
            "type_ids": [one.type_id for one in chosen],
        }
        return Sample(media=(frames,), turns=turns, tracks=drawn, task=self.name, meta=meta)

    def describe(self, record: ReferredClip) -> str:
        return f"{record.file}: video {record.video}"

    def extent(self, index: int) -> Extent:
        record = self.records[index]
        num_characters = [len(one.text) for one in record.expressions]
        drawn = min(len(num_characters), self.config.num_expressions)
        return Extent(record.num_frames, sum(num_characters) * drawn // len(num_characters))


@dataclass(frozen=True)
class ClipFiles:
    """A clip of meta_expressions.json whose frames were found.

    Attributes:
        record: fields of the clip.
        video: its name.
        folder: folder of its frames.
        frames: T names without suffix, sorted as the masks are.
        expressions: (id, fields) of each expression, by number.
    """

    record: Record
    video: str
    folder: Path
    frames: tuple[str, ...]
    expressions: tuple[tuple[str, Record], ...]

    def clip(self, expressions: Sequence[ClipExpression], tracks: ClipTracks | None, **more: Any) -> FrameClip:
        """Build the record of the dataset."""
        return FrameClip(
            file=self.record.file, video=self.video, expressions=tuple(expressions), folder=self.folder,
            frames=self.frames, tracks=tracks, **more,
        )  # fmt: skip


def read_videos(file: Path) -> list[tuple[str, Record]]:
    """Read the clips of meta_expressions.json as (name, fields).

    Raises:
        ValueError: the file is missing or damaged.
    """
    return list(read_object(file).named_children("videos", "video"))


def find_clip(video: str, record: Record, media: MediaFolders) -> ClipFiles:
    """Find the frames of a clip by one listing of its folder.

    Args:
        video: its name.
        record: its fields.
        media: folders that may hold it.

    Raises:
        ValueError: it has no frames or no expressions, or a frame is missing.
    """
    names = record.get("frames", list)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise record.error(f"frames is {names!r:.60}; expected different names, at least one")
    folder = media.find(video, record)
    present = media.names(folder)
    for name in names:
        if f"{name}{FRAME_SUFFIX}" not in present:
            raise record.error(f"there is no frame {name}{FRAME_SUFFIX} in {folder}; fetch the clip again")
    expressions = sorted(record.named_children("expressions", "expression"), key=lambda one: _by_number(one[0]))
    if not expressions:
        raise record.error("it has no expressions; expected at least one")
    return ClipFiles(record, video, folder, tuple(sorted(names)), tuple(expressions))


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else -1), name


def read_text(expression: Record, *, is_description: bool = False) -> str:
    """Return the text of an expression; descriptions are kept as they are.

    Raises:
        ValueError: there is no text.
    """
    text = expression.text("exp")
    if not (phrase := text if is_description else normalize_phrase(text)):
        raise expression.error(f"exp is {text!r}; expected words")
    return phrase


def normalize_phrase(text: str) -> str:
    """Return a text in lower case without its full stop, as the released training does; a question as it is."""
    return text if "?" in text else text.lower().rstrip(".").strip()


def has_field(videos: Sequence[tuple[str, Record]], key: str) -> bool:
    """Return whether any expression has a field; expressions of a test split do not name their objects."""
    each = (one for _, video in videos for _, one in video.named_children("expressions", "expression"))
    return any(key in one.values for one in each)


def build_unmasked_clip(clip: ClipFiles) -> FrameClip:
    """Build a clip whose masks only the evaluation server has."""
    expressions = [ClipExpression(text=read_text(one), objects=(), id=name) for name, one in clip.expressions]
    return clip.clip(expressions, None)


def read_listed_clips(
    videos: Sequence[tuple[str, Record]], media: MediaFolders, masks: MaskDict | None, described: int | None = None
) -> list[FrameClip]:
    """Build clips whose expressions list their annotations in "anno_id", as MeViS, ReVOS and Ref-SAV (valid) do.

    Args:
        videos: as read.
        media: folders that may hold the clips.
        masks: mask dictionary; None if only the evaluation server has the masks.
        described: type_id of expressions that are whole sentences; None = no expression is.

    Raises:
        ValueError: a clip is damaged, or its annotations are missing or malformed.
    """

    def read(item: tuple[str, Record]) -> FrameClip:
        clip = find_clip(*item, media)
        return build_unmasked_clip(clip) if masks is None else _build_listed_clip(clip, masks, described)

    return read_each(read, videos)


def _build_listed_clip(clip: ClipFiles, masks: MaskDict, described: int | None) -> FrameClip:
    rows: dict[str, int] = {}
    tracks: list[RunLengthTrack] = []
    expressions = []
    for name, expression in clip.expressions:
        objects = []
        for anno_id in dict.fromkeys(_read_annotation_ids(expression)):
            if anno_id not in rows:
                rows[anno_id] = len(tracks)
                tracks.append(masks.track(anno_id, len(clip.frames), expression))
            objects.append(rows[anno_id])
        type_id = expression.get("type_id", int, None)
        is_description = type_id is not None and type_id == described
        text = read_text(expression, is_description=is_description)
        expressions.append(
            ClipExpression(text=text, objects=tuple(objects), is_description=is_description, id=name, type_id=type_id)
        )
    return clip.clip(expressions, store_tracks(clip, tracks))


def _read_annotation_ids(expression: Record) -> list[str]:
    found = expression.get("anno_id", list)
    if not all(isinstance(one, int | str) and not isinstance(one, bool) for one in found):
        raise expression.error(f"anno_id is {found!r:.60}; expected a list of annotation ids")
    return [str(one) for one in found]


def store_tracks(clip: ClipFiles, tracks: Sequence[RunLengthTrack]) -> StoredTracks:
    """Build the tracks of a clip in the size of its masks; without any mask in that of its first frame.

    Raises:
        ValueError: the masks differ in size, or from the clip's fields.
    """
    sizes = {tuple(track.size) for track in tracks if track.size is not None}
    if "height" in clip.record.values:
        sizes.add(clip.record.size())
    if len(sizes) > 1:
        raise clip.record.error(f"its masks and its own fields give the sizes {sorted(sizes)}; expected one (H, W)")
    height, width = sizes.pop() if sizes else read_size(clip.folder / f"{clip.frames[0]}{FRAME_SUFFIX}", MAX_PIXELS)
    return StoredTracks(tracks, height, width)
