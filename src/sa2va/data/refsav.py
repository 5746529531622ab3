"""Read Ref-SAV: captions of objects in the videos of SA-V.

Flow: train: Ref-SAV.json, sam_v_full/**/<video>.mp4 and <video>_manual.json or _auto.json; valid: ref_sav_eval/
    {meta_expressions_valid.json, mask_dict.json, videos/<video>/<frame>.jpg} -> ReferringClips.
Source: Sa2VA, arXiv:2501.04001, section 3.4; SA-V, arXiv:2408.00714: 24 frames per second, of which every fourth is
    annotated. The released training decodes the whole video for every sample; here the chosen frames are sought.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sa2va.data.clips import (
    ClipExpression,
    ReferredClip,
    ReferringClips,
    normalize_phrase,
    read_listed_clips,
    read_videos,
)
from sa2va.data.mask_dict import RunLengthTrack, read_mask_dict
from sa2va.data.media_files import UNKNOWN_LENGTH, MediaFolders, StoredVideo
from sa2va.data.records import Record, read_object
from sa2va.data.stored import DrawConfig, check_split, read_each
from sa2va.data.tracks import StoredTracks
from sa2va.types import FrameSource

SPLITS = ("train", "valid")
ANNOTATED_EVERY = 4  # frames
CAPTIONS = "Ref-SAV.json"
VIDEOS = "sam_v_full"
EVALUATION = "ref_sav_eval"
LONG, SHORT = 0, 1  # type_id of captions


@dataclass(frozen=True, kw_only=True)
class SavClip(ReferredClip):
    """A video of SA-V with captions of some of its objects.

    Attributes:
        path: the video.
        masklets: its annotation file, which is read with each sample: together they have hundreds of GB.
        objects: places of the objects in each frame of that file, one per row of the tracks.
    """

    path: Path
    masklets: Path
    objects: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        return UNKNOWN_LENGTH

    def open(self) -> tuple[FrameSource, StoredTracks]:
        video = StoredVideo(self.path, ANNOTATED_EVERY)
        record = read_object(self.masklets)
        frames = record.get("masklet", list)
        if len(frames) != video.num_frames:
            raise record.error(
                f"it has masks for {len(frames)} frames, and {self.path.name} has {video.num_frames} counting every "
                f"{ANNOTATED_EVERY}th; fetch both again"
            )
        tracks = [RunLengthTrack(list(_masks_of(index, frames, record)), record) for index in self.objects]
        for index, track in zip(self.objects, tracks, strict=True):
            if track.size not in (None, [video.height, video.width]):
                size = [video.height, video.width]
                raise record.error(f"masks of object {index} are {track.size}, frames of {self.path.name} are {size}")
        return video, StoredTracks(tracks, video.height, video.width)


def build(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringClips:
    """Read one split.

    Args:
        path: folder with Ref-SAV.json and sam_v_full; the evaluation's ref_sav_eval lies there or beside that folder.
        split: "train" or "valid".
        draw: settings of the draws; `captions` chooses long or short ones of the split train.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("refsav", split, SPLITS)
    draw, folder = draw or DrawConfig(), Path(path)
    if split == "valid":
        inside = folder / EVALUATION
        place = inside if inside.exists() else folder.parent / EVALUATION
        videos = read_videos(place / "meta_expressions_valid.json")
        masks = read_mask_dict(place / "mask_dict.json")
        clips = read_listed_clips(videos, MediaFolders(place / "videos"), masks, described=LONG)
        return ReferringClips("refsav", clips, draw)
    media = MediaFolders(folder / VIDEOS, folder / VIDEOS / "sav_train")
    file = folder / CAPTIONS
    videos = [(name, Record(values, file, f"video {name}")) for name, values in read_object(file).values.items()]
    return ReferringClips("refsav", read_each(lambda item: _read_clip(*item, media, draw), videos), draw)


def _read_clip(video: str, record: Record, media: MediaFolders, draw: DrawConfig) -> SavClip | None:
    objects: list[int] = []
    expressions = []
    for name, captions in record.named_children("objects", "object"):
        if not name.isdecimal():
            raise captions.error(f"its key is {name!r:.60}; expected the place of the object in the masklets")
        long, short = captions.text("formated"), captions.get("short_caps", list, [])
        if not all(isinstance(one, str) and one.strip() for one in short):
            raise captions.error(f"short_caps is {short!r:.60}; expected a list of texts")
        row = (len(objects),)
        objects.append(int(name))
        if draw.captions != "short":
            expressions.append(
                ClipExpression(text=long, objects=row, is_description=True, id=f"{name} long", type_id=LONG)
            )
        for place, text in enumerate(short if draw.captions != "long" else []):
            phrase = normalize_phrase(text.strip())
            expressions.append(ClipExpression(text=phrase, objects=row, id=f"{name} short {place}", type_id=SHORT))
    if not objects:
        raise record.error("it has no objects; expected at least one")
    if not expressions:
        return None  # none of its objects has a short caption
    video_path, anno_path = record.text("video_path"), record.text("anno_path")
    return SavClip(
        file=record.file, video=video, expressions=tuple(expressions), objects=tuple(objects),
        path=media.find(video_path, record, _other_spellings(video_path)),
        masklets=media.find(anno_path, record, _other_spellings(anno_path)),
    )  # fmt: skip


def _other_spellings(name: str) -> Iterator[str]:
    """Yield other places of a file of SA-V, whose archives were unpacked in several ways."""
    parts = PurePosixPath(name).parts
    yield "/".join(dict.fromkeys(parts))  # without the second of a doubled folder, in either order
    yield "/".join(part for place, part in enumerate(parts) if part not in parts[place + 1 :])
    yield "/".join(parts[-2:])


def _masks_of(index: int, frames: list, record: Record) -> Iterator[object]:
    for place, masks in enumerate(frames):
        if not isinstance(masks, list) or index >= len(masks):
            count = len(masks) if isinstance(masks, list) else 0
            raise record.error(f"frame {place} has masks of {count} objects; there is none of object {index}")
        yield masks[index]
