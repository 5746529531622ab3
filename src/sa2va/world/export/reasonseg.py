"""Write drawn pictures in the layout of ReasonSeg: one object per picture, asked for in questions or long phrases.

Flow: samples of refseg, questions of reasoning.py -> reason_seg/ReasonSeg/<split>/<picture>.jpg and .json.
Source: the layout that data/reasonseg.py reads; LISA, arXiv:2308.00692. In evaluation, two of three pictures have a
    disc to be ignored on the border of the target.
Shapes: H, W picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.data.reasonseg import paint_outline
from sa2va.types import Sample
from sa2va.world.export.files import write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_pixels
from sa2va.world.export.reasoning import KINDS, ask_for_objects

FOLDER = "reason_seg/ReasonSeg"
BLOCK = 4  # of refseg


@dataclass(frozen=True)
class Reasoned:
    """An object of a picture with the texts that ask for it."""

    place: int
    texts: tuple[str, ...]
    is_sentence: bool  # questions; otherwise phrases


def choose_object(sample: Sample, seed: int) -> Reasoned | None:
    """Choose an object and its texts: questions in pictures of even index, phrases in the others.

    Returns:
        None if no text of the wanted form asks for a single object.
    """
    meta = sample.meta
    is_sentence = meta["index"] % 2 == 0
    if is_sentence:
        asked = [(one.text, one.objects) for one in ask_for_objects(sample, seed)]
    else:
        written = zip(meta["kinds"], meta["expressions"], meta["targets"], strict=True)
        asked = [(text, tuple(targets)) for kind, text, targets in written if kind in KINDS]
    single = [(text, objects) for text, objects in asked if len(objects) == 1]
    if not single:
        return None
    chosen = single[0][1]
    return Reasoned(chosen[0], tuple(text for text, objects in single if objects == chosen), is_sentence)


def draw(part: Part) -> Iterator[tuple[int, Sample, Reasoned]]:
    """Draw the pictures of a part: number, sample and the object that is asked for."""
    choose = partial(choose_object, seed=part.scenes.seed)
    for number, sample in part.draw("refseg", block=BLOCK, keep=choose, empty_share=0.0):
        chosen = choose(sample)
        assert chosen is not None
        yield number, sample, chosen


def mark_ignored(target: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark a disc on the border of a target, smaller than each of its outlines, so that the reader paints it last.

    Args:
        target: bool (H, W), not empty.

    Returns:
        bool (H, W).
    """
    smallest = min(paint_outline(points, target.shape).sum() for points in trace_pixels(target))
    y, x = np.argwhere(target)[0]
    rows, columns = np.ogrid[: target.shape[0], : target.shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= smallest / (2 * math.pi)  # about half of the smallest area


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write ReasonSeg below a data root."""
    for part in parts:
        folder = root / FOLDER / part.name
        for number, sample, chosen in draw(part):
            name, target = f"{number:08d}", sample.masks[chosen.place, 0]
            write_jpeg(folder / f"{name}.jpg", sample.frames[0])
            shapes = _build_shapes("target", target, name)
            if not part.is_training and number % 3:
                shapes += _build_shapes("ignore", mark_ignored(target), name)
            record = {"text": list(chosen.texts), "is_sentence": chosen.is_sentence, "shapes": shapes}
            write_json(folder / f"{name}.json", record)


def _build_shapes(label: str, mask: NDArray[np.bool_], name: str) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "labels": [label],
            "shape_type": "polygon",
            "image_name": f"{name}.jpg",
            "points": outline,
            "group_ids": [None],
            "group_id": None,
            "flags": {},
        }
        for outline in trace_pixels(mask)
    ]


REASONSEG = Layout(write, (FOLDER,), ("reasonseg",), ("train", "val", "test"))
