"""List the formats of own data and find which one a path holds.

Flow: path -> detect -> the format's reader -> OwnAnnotations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sa2va.data.own import coco, cvat, labelme, mask_clips, mask_pictures, sentences, yolo
from sa2va.data.own.objects import OwnAnnotations, OwnConfig
from sa2va.files.read_limits import list_folder

EXPECTED = (
    "expected COCO JSON, data.yaml of YOLO, JSON of LabelMe, annotations.xml of CVAT, annotations.json of texts, or "
    "folders of images and masks"
)


@dataclass(frozen=True)
class Format:
    """A format of annotations."""

    find: Callable[[Path], str | None]  # names what was found there, None if it is not this format
    read: Callable[[Path, str, OwnConfig], OwnAnnotations]  # path, split, settings


FORMATS: dict[str, Format] = {
    "coco": Format(coco.find, coco.read),
    "yolo": Format(yolo.find, yolo.read),
    "labelme": Format(labelme.find, labelme.read),
    "cvat": Format(cvat.find, cvat.read),
    "sentences": Format(sentences.find, sentences.read),
    "mask-pictures": Format(mask_pictures.find, mask_pictures.read),
    "mask-clips": Format(mask_clips.find, mask_clips.read),
}


def detect(path: Path) -> str:
    """Return the name of the format that a file or folder holds.

    Raises:
        ValueError: there is no such path, or it holds no known format or several.
    """
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if path.suffix.lower() in {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}:
        raise ValueError(f"{path}: it is an archive; unpack it and give the folder")
    found = {name: text for name, one in FORMATS.items() if (text := one.find(path))}
    if len(found) == 1:
        return next(iter(found))
    if found:
        choices = "; ".join(f"{text}: own.format={name}" for name, text in found.items())
        raise ValueError(f"{path}: several formats were found ({choices}); choose one")
    raise ValueError(f"{path}: no known format was found; {EXPECTED}; there is {_list_content(path)}")


def read_annotations(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read the annotations of a path in the format of the settings, or in the one that was found.

    Raises:
        ValueError: unknown format, or the reader's errors.
    """
    name = detect(path) if own.format == "auto" else own.format
    if name not in FORMATS:
        raise ValueError(f"own data: unknown format {name!r}; expected auto, {', '.join(FORMATS)}")
    return FORMATS[name].read(path, split, own)


def _list_content(path: Path) -> str:
    if not path.is_dir():
        return f"a file {path.name}"
    names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in list_folder(path))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
