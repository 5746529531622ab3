"""Export region captions, and compare the file with the drawn samples."""

import json

import numpy as np
from PIL import Image
from world.export.conftest import Export

from sa2va.masks import polygons_to_mask
from sa2va.world.export import region_caption


def test_each_marked_object_has_an_image_an_annotation_and_its_description(write: Export) -> None:
    root, (part,) = write("region_caption", "dev", items=4)
    folder = root / region_caption.FOLDER
    coco = json.loads((folder / region_caption.FILE).read_text())
    written = iter(zip(coco["images"], coco["annotations"], strict=True))
    num_pictures = 0
    for number, sample in region_caption.draw(part):
        num_pictures += 1
        for mask, answer in zip(sample.turns[0].regions, sample.meta["answers"], strict=True):
            image, annotation = next(written)
            assert image["id"] == annotation["id"] == annotation["image_id"] and image["original_id"] == number
            assert f"It is {annotation['caption']}." == answer and image["caption"] == annotation["caption"]
            assert np.array_equal(polygons_to_mask(annotation["segmentation"], *mask.shape), mask)
            with Image.open(folder / region_caption.PICTURES / image["file_name"]) as picture:
                pixels = np.asarray(picture)
            assert pixels.shape == (image["height"], image["width"], 3)
            assert np.abs(pixels.astype(int) - sample.frames[0]).mean() < 4
    assert next(written, None) is None and num_pictures == 4
    assert len({image["id"] for image in coco["images"]}) == len(coco["images"]) > 4
