"""Write drawn pictures with marked regions in the five files of Osprey-724K.

Flow: samples of region -> osprey-724k/{Osprey-724K/osprey_*.json, coco/train2014/*.jpg}.
Source: the layout that data/osprey.py reads; Osprey, arXiv:2312.10032. A region is named <region1> in the text.
Shapes: S side of the image in px.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sa2va.masks import bbox
from sa2va.types import Sample
from sa2va.world.export.files import box_of, write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_outlines
from sa2va.world.language.descriptions import describe
from sa2va.world.language.grammar import PLACES, with_article
from sa2va.world.language.questions import find_cell
from sa2va.world.scenes.scene import Scene, WorldObject
from sa2va.world.scenes.splits import TRAIN
from sa2va.world.tasks.items import draw_item

FOLDER = "osprey-724k"
HALVES = ("left half", "right half", "upper half", "lower half")
_REGION = re.compile(r"\bregion\d+\b")
_QUESTIONS = {
    "color": "What color is <{}>?",
    "shape": "What shape is <{}>?",
    "size": "What size is <{}>?",
    "texture": "What texture does <{}> have?",
}


@dataclass(frozen=True)
class Marked:
    """A picture with marked objects.

    Attributes:
        sample: of the task region, each mark the object's visible pixels.
        things: the marked objects, in the order of the regions.
        scene: all objects.
        rng: random generator for the texts.
    """

    sample: Sample
    things: Sequence[WorldObject]
    scene: Scene
    rng: np.random.Generator

    @property
    def regions(self) -> tuple[NDArray[np.bool_], ...]:
        """Masks, each bool (S, S)."""
        return self.sample.turns[0].regions


# Regions, and the fields of a record with the text about them.
Written = tuple[Sequence[NDArray[np.bool_]], dict[str, Any]]


def write_conversation(marked: Marked) -> Written:
    """Take over the turns of the sample."""
    turns = [(_REGION.sub(r"<\g<0>>", turn.question), turn.answer) for turn in marked.sample.turns]
    return marked.regions, _converse(turns)


def write_description(marked: Marked) -> Written:
    """Describe each region: appearance and place in the picture."""
    return marked.regions, {"description": [describe_in_place(thing) for thing in marked.things]}


def write_parts(marked: Marked) -> Written:
    """Mark half of each object, and ask which."""
    halves = [str(marked.rng.choice(HALVES)) for _ in marked.things]
    regions = [cut_half(mask, half) for mask, half in zip(marked.regions, halves, strict=True)]
    turns = [
        (f"What part of an object is <region{number}>?", f"the {half} of {describe(thing)}")
        for number, (thing, half) in enumerate(zip(marked.things, halves, strict=True), 1)
    ]
    return regions, _converse(turns)


def write_short_answers(marked: Marked) -> Written:
    """Ask for one attribute of each region."""
    turns = []
    for number, thing in enumerate(marked.things, 1):
        name = str(marked.rng.choice(list(_QUESTIONS)))
        turns.append((_QUESTIONS[name].format(f"region{number}"), str(getattr(thing, name))))
    return marked.regions, _converse(turns)


def write_existence(marked: Marked) -> Written:
    """Ask whether a region is an object of some color and shape: its own, or those of another in the picture."""
    turns = []
    for number, thing in enumerate(marked.things, 1):
        others = sorted({other.pair for other in marked.scene.objects} - {thing.pair})
        is_so = not others or bool(marked.rng.random() < 0.5)
        pair = thing.pair if is_so else others[int(marked.rng.integers(len(others)))]
        turns.append((f"Is <region{number}> {with_article(' '.join(pair))}?", "yes" if is_so else "no"))
    return marked.regions, _converse(turns)


def describe_in_place(thing: WorldObject) -> str:
    """Describe an object with its place in the picture."""
    cell = find_cell(thing)
    where = f" {PLACES['middle' if cell == 'center' else cell]}" if cell else ""
    return f"It is {describe(thing)}{where}."


def cut_half(mask: NDArray[np.bool_], half: str) -> NDArray[np.bool_]:
    """Keep the pixels of a mask, bool (S, S), in one half of its box; all of them if none lies there."""
    box = bbox(mask)
    assert box is not None, "an object without visible pixels cannot be marked"
    x, y = int(box[0] + box[2] + 1) // 2, int(box[1] + box[3] + 1) // 2
    part = np.zeros_like(mask)
    rows = slice(0, y) if half == "upper half" else slice(y, None) if half == "lower half" else slice(None)
    columns = slice(0, x) if half == "left half" else slice(x, None) if half == "right half" else slice(None)
    part[rows, columns] = mask[rows, columns]
    return part if part.any() else mask


def _converse(turns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    spoken = [
        {"from": speaker, "value": text} for turn in turns for speaker, text in zip(("human", "gpt"), turn, strict=True)
    ]
    return {"conversations": spoken}


FILES: dict[str, Callable[[Marked], Written]] = {
    "osprey_conversation": write_conversation,
    "osprey_detail_description": write_description,
    "osprey_part_level": write_parts,
    "osprey_short_form": write_short_answers,
    "osprey_lvis_positive_negative": write_existence,
}


def draw_marked(part: Part, file: str) -> Iterator[tuple[int, Marked]]:
    """Draw the pictures of a file, each with its number."""
    for number, sample in part.draw("region", block=list(FILES).index(file), form="mask"):
        scene, _ = draw_item("region", part.scenes.seed, part.scenes.split, sample.meta["index"])
        things = [scene.objects[target] for (target,) in sample.meta["targets"]]
        rng = np.random.default_rng([part.scenes.seed, sample.meta["index"], crc32(file.encode())])
        yield number, Marked(sample, things, scene, rng)


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write the five files and their pictures below a data root."""
    folder = root / FOLDER
    for place, (file, write_text) in enumerate(FILES.items()):
        records = []
        for number, marked in (one for part in parts for one in draw_marked(part, file)):
            regions, text = write_text(marked)
            number = len(FILES) * number + place
            name, frame = f"COCO_train2014_{number:012d}.jpg", marked.sample.frames[0]
            write_jpeg(folder / "coco/train2014" / name, frame)
            annotation = [
                {"segmentation": trace_outlines(mask), "bbox": box_of(mask), "area": int(mask.sum())}
                for mask in regions
            ]
            size = {"height": frame.shape[0], "width": frame.shape[1]}
            records.append({"id": number, "file_name": name, **size, "annotation": annotation, **text})
        write_json(folder / f"Osprey-724K/{file}.json", records)


OSPREY = Layout(
    write,
    (FOLDER,),
    ("osprey", "osprey_description", "osprey_part", "osprey_short", "osprey_lvis"),
    splits=(TRAIN,),
)
