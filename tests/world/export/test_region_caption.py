"""Export region captions, and compare what the core reads with the drawn samples."""

import json

import numpy as np
from world.export.conftest import Export
from world.export.reading import assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.world.export import region_caption


def test_the_reader_gives_a_description_of_each_marked_object(write: Export) -> None:
    root, (part,) = write("region_caption", "dev", items=4)
    dataset = build_dataset("region_caption", root / FOLDERS["region_caption"], split="val")
    coco = json.loads((root / region_caption.FOLDER / region_caption.FILE).read_text())
    assert len(coco["images"]) == len(coco["annotations"]) == len(dataset) > 4
    index = 0
    for number, sample in region_caption.draw(part):
        for mask, answer in zip(sample.turns[0].regions, sample.meta["answers"], strict=True):
            read, image, annotation = dataset[index], coco["images"][index], coco["annotations"][index]
            assert_same_pictures(read, sample.frames)
            (turn,) = read.turns
            assert f"It is {turn.answer}." == answer and np.array_equal(turn.regions[0], mask)
            assert image["id"] == annotation["id"] == annotation["image_id"] and image["original_id"] == number
            index += 1
    assert index == len({image["id"] for image in coco["images"]})
