"""Find clips with object masks on disk: the masklets of SA-V, or the expressions of MeViS.

Flow: folder -> find_clips -> SourceClip, one per clip -> views.py, which decodes it; layout.py, which links it.
Source: the layouts that data/refsav.py and data/mevis.py read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.data import mevis
from sa2va.data.clips import EXPRESSIONS, ReferredClip
from sa2va.data.records import read_object
from sa2va.data.refsav import SavClip
from sa2va.types import FrameSource, MaskTracks

MANUAL, AUTOMATIC = "_manual.json", "_auto.json"  # endings of the annotation files of SA-V


@dataclass(frozen=True, kw_only=True)
class SourceClip:
    """A clip with the masks of its objects.

    Attributes:
        name: distinct among the clips of a run.
        open: returns its annotated frames and the masks of all its objects on them.
        video: its MP4 file with annotated frames every 1/6 s, as SA-V has it; None = it has only pictures of frames.
        masklets: the annotation file of `video`.
    """

    name: str
    open: Callable[[], tuple[FrameSource, MaskTracks]]
    video: Path | None = None
    masklets: Path | None = None


def find_clips(folder: Path) -> list[SourceClip]:
    """Find the clips of a folder, sorted by name.

    Args:
        folder: holds SA-V's <video>.mp4 and <video>_manual.json or _auto.json at any depth, or is the folder of a split
            of MeViS, or holds its split train.

    Raises:
        ValueError: it is no folder, has no clips or two of one name, or a file of it is damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r}: expected a folder of clips with masks; there is none")
    if found := _find_masklets(folder):
        return found
    for place in (folder, folder / "train"):
        if (place / EXPRESSIONS).is_file():
            records = mevis.build(place.parent.resolve(), split=place.resolve().name).records
            return sorted((_of_record(one) for one in records), key=lambda clip: clip.name)
    raise ValueError(
        f"{str(folder)!r}: no clips with masks; expected VIDEO.mp4 with VIDEO{MANUAL} or VIDEO{AUTOMATIC} as in SA-V, "
        f"or {EXPRESSIONS} with masks as in MeViS"
    )


def _find_masklets(folder: Path) -> list[SourceClip]:
    """Find SA-V's videos; manual masklets are preferred to automatic ones."""
    found: dict[str, Path] = {}
    for ending in (AUTOMATIC, MANUAL):
        for name, files in _group_by_name(folder, ending).items():
            if len(files) > 1:
                raise ValueError(f"{folder}: two clips are named {name}, {files[0]} and {files[1]}; rename one")
            found[name] = files[0]
    clips = []
    for name, file in sorted(found.items()):
        video = file.with_name(f"{name}.mp4")
        if not video.is_file():
            raise ValueError(f"{file}: there is no {video.name} beside it; fetch the missing file or remove this one")
        clips.append(SourceClip(name=name, open=_opener(name, video, file), video=video, masklets=file))
    return clips


def _group_by_name(folder: Path, ending: str) -> dict[str, list[Path]]:
    """List the files of an ending by the name before it."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob(f"*{ending}")):
        found.setdefault(file.name.removesuffix(ending), []).append(file)
    return found


def _opener(name: str, video: Path, file: Path) -> Callable[[], tuple[FrameSource, MaskTracks]]:
    def open_clip() -> tuple[FrameSource, MaskTracks]:
        record = read_object(file)
        first: Sequence[object] = next(iter(record.get("masklet", list)), [])
        if not isinstance(first, list):
            raise record.error(f"masklet has {first!r:.60} for the first frame; expected a list with a mask per object")
        places = tuple(range(len(first)))
        return SavClip(file=file, video=name, expressions=(), path=video, masklets=file, objects=places).open()

    return open_clip


def _of_record(record: ReferredClip) -> SourceClip:
    return SourceClip(name=record.video, open=record.open)
