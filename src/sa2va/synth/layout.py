"""Write what a run found in the layout of Ref-SAV, and fix what the run does.

Flow: start_run -> OUT/synth.json, the settings; SourceClip -> place_media -> OUT/video_datas/sam_v_full; Outcomes ->
    write_captions -> OUT/video_datas/Ref-SAV.json, which data/refsav.py reads.
Source: SA-V, arXiv:2408.00714: 24 frames per second, every fourth annotated.
Shapes: T annotated frames; a written video has 4 * (T - 1) + 1 frames.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sa2va.data.refsav import ANNOTATED_EVERY, CAPTIONS, VIDEOS
from sa2va.files.atomic import refusals
from sa2va.files.json_file import read_json
from sa2va.files.run_folder import placed, require_new, require_same
from sa2va.masks import encode_rle
from sa2va.media.writer import VideoWriter
from sa2va.synth.sources import MANUAL, SourceClip
from sa2va.types import FrameSource, MaskTracks

SETTINGS = "synth.json"
ROOT = "video_datas"  # of Ref-SAV below a root of data
FPS = 24
_CRF = 12  # of x264
_PER_GROUP = 1000  # videos of a folder


def start_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Fix the settings of a new folder; check them in one that holds a run.

    Args:
        folder: of the run.
        settings: what decides the results; JSON.

    Raises:
        ValueError: the folder holds other files or a run with other settings, or cannot be written.
    """
    wanted = json.loads(json.dumps(dict(settings)))
    place = folder / SETTINGS
    if not place.exists():
        require_new(folder, SETTINGS)
        write_json(folder, place, wanted)
    require_same(folder, read_json(place), wanted)


def _names(clip: SourceClip, number: int) -> tuple[str, str]:
    """Return the places of a video and of its masklets below sam_v_full."""
    group = f"sav_{number // _PER_GROUP:03d}"
    masklets = f"{clip.name}{MANUAL}" if clip.masklets is None else clip.masklets.name
    return f"{group}/{clip.name}.mp4", f"{group}/{masklets}"


def place_media(folder: Path, clip: SourceClip, number: int) -> None:
    """Put the video and the masklets of a clip into the layout: hard links, copies on another disk, or new files.

    A file that is there stays: only this run writes into its folder.

    Args:
        folder: of the run.
        clip: the clip.
        number: its number in the run.

    Raises:
        ValueError: the clip cannot be read, or the disk refuses a file.
    """
    video, masklets = (folder / ROOT / VIDEOS / name for name in _names(clip, number))
    if clip.video is not None and clip.masklets is not None:
        _link(folder, clip.video, video)
        _link(folder, clip.masklets, masklets)
        return
    media, tracks = clip.open()
    if not video.exists():
        with placed(folder, video) as draft:
            _write_video(media, draft)
    if not masklets.exists():
        write_json(folder, masklets, _list_masklets(clip.name, media, tracks), indent=None)


def write_json(folder: Path, place: Path, values: Any, indent: int | None = 1) -> None:
    """Write a JSON file of a run; see `placed`."""
    with placed(folder, place) as draft:
        draft.write_text(json.dumps(values, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def _link(folder: Path, source: Path, place: Path) -> None:
    if place.exists():
        return
    with refusals(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.resolve(), place)
        except FileExistsError:  # another shard was faster
            return
        except OSError:  # another disk, or one without hard links
            with placed(folder, place) as draft:
                shutil.copyfile(source, draft)


def _write_video(media: FrameSource, place: Path) -> None:
    num_frames = media.num_frames or 0
    with VideoWriter(place, FPS, (media.height, media.width), crf=_CRF) as writer:
        for index in range(num_frames):
            frame = media.frames([index])[0]
            for _ in range(ANNOTATED_EVERY if index < num_frames - 1 else 1):
                writer.write(frame)


def _list_masklets(name: str, media: FrameSource, tracks: MaskTracks) -> dict[str, Any]:
    """Build the annotation file of a video of SA-V: masklet[t][n] is the mask of object n on annotated frame t."""
    num_frames, num = media.num_frames or 0, len(tracks)
    masklet = [[encode_rle(one[0]) for one in tracks.masks(range(num), [frame])] for frame in range(num_frames)]
    length = ANNOTATED_EVERY * (num_frames - 1) + 1
    return {
        "video_id": name,
        "video_frame_count": length,
        "video_duration": length / FPS,
        "video_height": media.height,
        "video_width": media.width,
        "masklet": masklet,
        "masklet_id": list(range(num)),
        "masklet_num": num,
        "masklet_type": "manual",
    }


def write_captions(folder: Path, clips: Iterable[tuple[int, SourceClip, Mapping[int, tuple[str, list[str]]]]]) -> None:
    """Write Ref-SAV.json.

    Args:
        folder: of the run.
        clips: number in the run, clip, and by object its long caption and its short ones; clips without any are left
            out.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    videos = {}
    for number, clip, captions in clips:
        if captions:
            video, masklets = _names(clip, number)
            objects = {str(place): {"formated": long, "short_caps": short} for place, (long, short) in captions.items()}
            videos[clip.name] = {"video_path": video, "anno_path": masklets, "objects": objects}
    write_json(folder, folder / ROOT / CAPTIONS, videos)
