"""Check that no damage to an annotation file ends in anything but one line that says so."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from support.own_formats import (
    cvat_images,
    write_clips,
    write_coco,
    write_cvat,
    write_labelme,
    write_pictures,
    write_voc,
    write_yolo,
)
from support.stored_layouts import write_json

from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig

JUNK = (None, True, 0, -1, 2**70, "", "x", "../..", [], {}, [[]], [None], [1, 2, 3], {"size": [1, 1], "counts": "0"})
INSERTED = (b"0", b"-", b"9999999999", b"nan", b" ", b"\n", b'"', b"<", b"\x00", b"1e400")
ROUNDS = 25


def write(folder: Path, file: str) -> Path:
    write_pictures(folder / "cvat/images")
    write_cvat(folder / "cvat", cvat_images())
    write_clips(folder / "clips/frames", folder / "clips/masks", ("walk",))
    write_json(folder / "clips/objects.json", {"walk": {"1": "cat", "2": {"category": "dog", "expressions": ["it"]}}})
    for name, one in (("coco", write_coco), ("labelme", write_labelme), ("yolo", write_yolo), ("voc", write_voc)):
        one(folder / name)
    rows = [{"file": "photo_0.png", "object": 0, "expression": "it"}]
    write_json(folder / "coco/expressions.json", rows)
    return folder / file


def list_places(values: Any, place: tuple = ()) -> list[tuple]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [place, *(below for key, one in items for below in list_places(one, (*place, key)))]


def replace_value(content: bytes, rng: random.Random) -> bytes:
    values = json.loads(content)
    *parents, key = rng.choice(list_places(values)[1:])
    holder = values
    for parent in parents:
        holder = holder[parent]
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = deepcopy(rng.choice(JUNK))
    return json.dumps(values).encode()


def replace_bytes(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 3, 10))):
        place, kind = rng.randrange(len(damaged) + 1), rng.random()
        if kind < 0.4:
            damaged[place : place + 1] = bytes([rng.randrange(256)])
        elif kind < 0.7:
            del damaged[place : place + 5]
        else:
            damaged[place:place] = rng.choice(INSERTED)
    return bytes(damaged)


FILES = [
    "coco/labels.json", "coco/expressions.json", "labelme/photo_0.json", "cvat/annotations.xml", "yolo/data.yaml",
    "yolo/labels/train/photo_0.txt", "clips/objects.json", "clips/masks/walk/00000.png", "voc/classes.txt",
    "voc/SegmentationObject/photo_0.png",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_in_one_line_or_does_no_harm(tmp_path: Path, name: str) -> None:
    file, rng = write(tmp_path, name), random.Random(name)
    content, num_refused = file.read_bytes(), 0
    for number in range(ROUNDS):
        damage = replace_value if file.suffix == ".json" and number % 2 else replace_bytes
        file.write_bytes(damage(content, rng))
        try:
            dataset = build(tmp_path / Path(name).parts[0], split="all", own=OwnConfig(unmasked="skip"))
            for index in range(len(dataset)):
                sample = dataset[index]
                assert sample.masks.dtype == bool and sample.masks.shape[2:] == sample.frames.shape[1:3]
        except ValueError as error:
            num_refused += 1
            assert "\n" not in str(error)
    assert num_refused or file.suffix == ".txt"
