"""Write what a run found in the layout of Ref-SAV, and fix what the run does.

Flow: start_run -> OUT/synth.json, the settings; SourceClip -> place_media -> OUT/video_datas/sam_v_full; Outcomes ->
    write_captions -> OUT/video_datas/Ref-SAV.json, which data/refsav.py reads.
Source: SA-V, arXiv:2408.00714: 24 frames per second, every fourth annotated.
Shapes: T annotated frames; a written video has 4 * (T - 1) + 1 frames.
"""

import json
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa2va.data.refsav import ANNOTATED_EVERY, CAPTIONS, VIDEOS
from sa2va.files.atomic import flush, refusals
from sa2va.files.json_file import read_json
from sa2va.files.scratch import PREFIX, UNLOCKED, open_scratch
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
        _require_empty(folder)
        write_json(folder, place, wanted)
    stored = read_json(place)
    for name in {**wanted, **stored}:
        if stored.get(name) != wanted.get(name):
            raise ValueError(
                f"{folder} holds a run with {name} {stored.get(name)!r:.80}, not {wanted.get(name)!r:.80}; "
                "choose another folder"
            )


def _require_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a new or empty folder; it is a file; choose another")
    others = sorted(one.name for one in folder.iterdir() if not one.name.startswith((PREFIX, UNLOCKED)))
    if others and SETTINGS not in others:  # another shard may have started the same run meanwhile
        raise ValueError(
            f"{folder}: expected a new or empty folder; it holds other files, such as {others[0]}; choose another"
        )


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


@contextmanager
def placed(folder: Path, place: Path) -> Generator[Path]:
    """Yield a name in a scratch folder of the run; on success the file moves to `place` by one rename.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    with refusals(place):
        folder.mkdir(parents=True, exist_ok=True)
        with open_scratch(folder) as scratch:
            yield scratch / place.name
            flush(scratch / place.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / place.name, place)
        flush(place.parent)


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
