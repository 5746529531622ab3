"""Write the kinds of files that public layouts consist of.

Flow: writers of world/export/ -> JSON, JPEG, COCO images and annotations below the draft of a layout.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.masks import RLE, bbox, encode_rle
from sa2va.types import Frame
from sa2va.world.scenes.scene import SHAPES

CATEGORIES = [{"id": number, "name": shape, "supercategory": "shape"} for number, shape in enumerate(SHAPES, 1)]
_QUALITY = 95


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file without spaces; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, separators=(",", ":")), encoding="utf-8")


def write_jpeg(path: Path, frame: Frame) -> None:
    """Write a picture as JPEG with full color resolution; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path, quality=_QUALITY, subsampling=0)


def write_frames(folder: Path, frames: Sequence[Frame]) -> list[str]:
    """Write the frames of a clip as 00000.jpg, 00001.jpg, ... and return the names without suffix."""
    names = [f"{number:05d}" for number in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        write_jpeg(folder / f"{name}.jpg", frame)
    return names


def encode_track(masks: NDArray[np.bool_]) -> list[RLE | None]:
    """Encode the masks of one object on T frames, bool (T, H, W); None where it is not seen."""
    return [encode_rle(mask) if mask.any() else None for mask in masks]


def box_of(mask: NDArray[np.bool_]) -> list[float]:
    """Return the box of a mask in COCO's form, [x, y, width, height] px; zeros for an empty mask."""
    x0, y0, x1, y1 = bbox(mask) or (0.0, 0.0, 0.0, 0.0)
    return [x0, y0, x1 - x0, y1 - y0]


def category_of(shape: str) -> int:
    """Return the id of a shape in CATEGORIES."""
    return SHAPES.index(shape) + 1
