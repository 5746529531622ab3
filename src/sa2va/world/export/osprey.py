"""Write drawn pictures with marked objects in the layout of Osprey-724K: conversations and detailed descriptions.

Flow: samples of region -> osprey-724k/{Osprey-724K/osprey_*.json, coco/train2014/*.jpg}.
Source: the layout that data/osprey.py reads; Osprey, arXiv:2312.10032. A region is named <region1> in the text.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa2va.types import Sample
from sa2va.world.export.files import box_of, write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_outlines
from sa2va.world.language.descriptions import describe
from sa2va.world.language.grammar import PLACES
from sa2va.world.language.questions import find_cell
from sa2va.world.scenes.scene import Scene
from sa2va.world.tasks.items import draw_item

FOLDER = "osprey-724k"
CONVERSATION, DESCRIPTION = range(2)  # blocks
_REGION = re.compile(r"\bregion\d+\b")


def describe_in_place(scene: Scene, place: int) -> str:
    """Describe an object with its place in the picture."""
    thing = scene.objects[place]
    cell = find_cell(thing)
    where = f" {PLACES['middle' if cell == 'center' else cell]}" if cell else ""
    return f"It is {describe(thing)}{where}."


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write the conversations and the detailed descriptions below a data root."""
    folder = root / FOLDER
    conversations: list[dict[str, Any]] = []
    descriptions: list[dict[str, Any]] = []
    for part in parts:
        for number, sample in part.draw("region", block=CONVERSATION, form="mask"):
            spoken = []
            for turn in sample.turns:
                spoken.append({"from": "human", "value": _REGION.sub(r"<\g<0>>", turn.question)})
                spoken.append({"from": "gpt", "value": turn.answer})
            conversations.append({**_write_picture(folder, 2 * number, sample), "conversations": spoken})
        for number, sample in part.draw("region", block=DESCRIPTION, form="mask"):
            scene, _ = draw_item("region", part.seed, part.split, sample.meta["index"])
            texts = [describe_in_place(scene, target) for (target,) in sample.meta["targets"]]
            descriptions.append({**_write_picture(folder, 2 * number + 1, sample), "description": texts})
    write_json(folder / "Osprey-724K/osprey_conversation.json", conversations)
    write_json(folder / "Osprey-724K/osprey_detail_description.json", descriptions)


def _write_picture(folder: Path, number: int, sample: Sample) -> dict[str, Any]:
    """Write a picture, and return its record with the marked regions."""
    name, frame = f"COCO_train2014_{number:012d}.jpg", sample.frames[0]
    write_jpeg(folder / "coco/train2014" / name, frame)
    regions = sample.turns[0].regions
    annotation = [
        {"segmentation": trace_outlines(mask), "bbox": box_of(mask), "area": int(mask.sum())} for mask in regions
    ]
    return {
        "id": number, "file_name": name, "height": frame.shape[0], "width": frame.shape[1], "annotation": annotation
    }  # fmt: skip


OSPREY = Layout(write, (FOLDER,), ("osprey", "osprey_description"), has_validation=False)
