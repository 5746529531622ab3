"""Read ReVOS: reasoning questions and expressions about clips of several datasets.

Flow: <folder>/{meta_expressions_<split>_.json, mask_dict.json, mask_dict_foreground.json} and the clips
    -> ReferringClips.
Source: Yan et al., arXiv:2407.11325. type_id of an expression: 0 referring, 1 reasoning, 2 nothing is there.
"""

from dataclasses import replace
from pathlib import Path

from sa2va.data.clips import FrameClip, ReferringClips, read_listed_clips, read_videos
from sa2va.data.mask_dict import MaskDict, read_mask_dict
from sa2va.data.media_files import MediaFolders
from sa2va.data.records import Record
from sa2va.data.stored import DrawConfig, check_split, read_each
from sa2va.data.tracks import StoredTracks, UnitedTracks

SPLITS = ("train", "valid")
MASKS = "mask_dict.json"
FOREGROUND = "mask_dict_foreground.json"


def build(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringClips:
    """Read one split.

    Args:
        path: folder with the files; clips lie below it or in its folder JPEGImages.
        split: "train" or "valid".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("revos", split, SPLITS)
    folder = Path(path)
    videos = read_videos(folder / f"meta_expressions_{split}_.json")
    media = MediaFolders(folder, folder / "JPEGImages")
    records = read_listed_clips(videos, media, read_mask_dict(folder / MASKS))
    if split == "valid":
        file = folder / FOREGROUND
        foreground = read_mask_dict(file) if file.exists() else None
        fields = dict(videos)
        records = read_each(lambda record: _add_foreground(record, fields[record.video], foreground), records)
    return ReferringClips("revos", records, draw or DrawConfig())


def _add_foreground(record: FrameClip, fields: Record, masks: MaskDict | None) -> FrameClip:
    """Add the masks of all objects as one; without a file for them they are the union, from which the file was made."""
    tracks = record.tracks
    assert tracks is not None
    if masks is None:
        return replace(record, foreground=UnitedTracks(tracks, [range(len(tracks))]))
    track = masks.track(record.video, record.num_frames, fields)
    return replace(record, foreground=StoredTracks([track], tracks.height, tracks.width))
