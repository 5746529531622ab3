"""Check the reader of region captions: polygons and run lengths, captions of either entry, damaged records."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_json
from support.stored_pictures import BOXES, write_region_captions

from sa2va.data import prompts
from sa2va.data.catalog import build_dataset


def test_every_expression_is_a_description_of_its_region(tmp_path: Path) -> None:
    dataset = build_dataset("region_caption", write_region_captions(tmp_path))
    assert [one.region_id for one in dataset.records] == [0, 1, 2]
    samples = [dataset[place] for place in range(len(dataset))]
    assert [one.turns[0].answer for one in samples] == ["The low box.", "the tall box", "box"]
    for sample, box in zip(samples, (BOXES[0], BOXES[1], BOXES[0]), strict=True):
        (region,) = sample.turns[0].regions
        assert np.array_equal(region, rectangle_mask(*box)) and sample.frames.shape[1:3] == region.shape
    asked = {dataset.draw(0, epoch).turns[0].question for epoch in range(20)}
    assert asked == {one.format("region1") for one in prompts.REGION}


def test_pictures_may_lie_where_evaluation_keeps_them(tmp_path: Path) -> None:
    folder = write_region_captions(tmp_path / "region_caption")
    (tmp_path / "glamm_data/images").mkdir(parents=True)
    (folder / "refcocog/coco2014").rename(tmp_path / "glamm_data/images/coco2014")
    assert len(build_dataset("region_caption", folder)) == 3


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda c: c["annotations"][0].pop("caption"), "image 0: it has no field 'caption'"),
        (
            lambda c: c["annotations"][1].update(image_id=7),
            "annotation 1: there is no image 7 in finetune",
        ),
        (lambda c: c["annotations"][1].update(segmentation=[]), r"annotation 1: segmentation is \[\]"),
        (lambda c: c["images"][0].update(file_name="gone.jpg"), "image 0: there is no gone.jpg in"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, damage: Callable, reason: str) -> None:
    file = write_region_captions(tmp_path) / "refcocog/finetune_refcocog_val_with_mask.json"
    content = json.loads(file.read_text())
    damage(content)
    write_json(file, content)
    with pytest.raises(ValueError, match=reason):
        build_dataset("region_caption", tmp_path)
