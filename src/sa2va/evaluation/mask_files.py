"""Write predicted masks of clips in the folders that evaluation servers and official codes read.

Flow: Benchmark.submit -> a file per frame -> submission.py packs the folder.
Source: Refer-YouTube-VOS (codalab 29139) reads Annotations/<clip>/<expression>/<frame>.png, MeViS (codalab 15094,
    codabench 11420) the same without Annotations; both 8-bit gray, 0 and 255. The official code of DAVIS reads 8-bit
    PNG with a palette, whose pixels are numbers of objects.
Shapes: T frames, H W picture.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.data.clips import ClipExpression, FrameClip
from sa2va.draw.overlay import color_of
from sa2va.evaluation.answers import Answer

ANNOTATIONS = "Annotations"
ANNOTATOR = "anno_{}"  # folder of an annotator of Ref-DAVIS17
NUM_COLORS = 255  # of a palette, besides black for the background


class AskedAbout(Protocol):
    """What a benchmark of clips asks: expressions about a clip."""

    @property
    def record(self) -> FrameClip: ...
    @property
    def expressions(self) -> tuple[ClipExpression, ...]: ...


def write_clip_masks(
    folder: Path, answered: Iterable[tuple[AskedAbout, Sequence[Answer]]], folder_name: str = ANNOTATIONS
) -> None:
    """Write <folder_name>/<clip>/<expression>/<frame>.png, the union of all masks of an answer, 0 and 255.

    Args:
        folder: empty.
        answered: items with an answer per expression.
        folder_name: folder of all clips; "" = none.
    """
    for item, answers in answered:
        for expression, answer in zip(item.expressions, answers, strict=True):
            place = folder / folder_name / item.record.video / expression.id
            masks = (answer.union_at(frame).astype(np.uint8) * 255 for frame in range(answer.num_frames))
            _write_pictures(place, item.record.frames, map(Image.fromarray, masks))


def write_index_masks(folder: Path, names: Sequence[str], masks: Iterable[NDArray[np.uint8]]) -> None:
    """Write index pictures with a palette.

    Args:
        folder: of one clip.
        names: T names without suffix.
        masks: T pictures (H, W) of object numbers, 0 the background.
    """
    palette = [0, 0, 0, *(level for index in range(NUM_COLORS) for level in color_of(index))]
    pictures = map(Image.fromarray, masks)
    _write_pictures(folder, names, (_colored(picture, palette) for picture in pictures))


def _colored(picture: Image.Image, palette: list[int]) -> Image.Image:
    picture.putpalette(palette)  # mode L becomes P, the values stay
    return picture


def _write_pictures(folder: Path, names: Sequence[str], pictures: Iterable[Image.Image]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / f"{name}.png")  # not flushed one by one: an archive has 10^5 of them
