"""Export grounded captions, and compare what the core reads with the drawn samples."""

import json
from pathlib import Path

import numpy as np
import pytest
from world.export.conftest import Export
from world.export.reading import assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.masks import decode_rle
from sa2va.types import Sample
from sa2va.world.export import gcg

KINDS = [
    ("gcg_refcocog", gcg.REFCOCOG, ("train", "val")),
    ("gcg_grandf", gcg.GRANDF, ("train",)),
    ("gcg_flickr30k", gcg.FLICKR, ("train", "val")),
    ("gcg_openpsg", gcg.OPENPSG, ("train", "val")),
]


def grounded(sample: Sample) -> list[tuple[str, int, int, np.ndarray]]:
    """List phrase, offsets and mask of each object of a caption."""
    (turn,) = sample.turns
    return [
        (turn.answer[span.start : span.end], span.start, span.end, sample.masks[index, 0])
        for span in turn.spans
        for index in span.objects
    ]


def assert_same_captions(read: Sample, drawn: Sample) -> None:
    assert read.turns[0].answer == drawn.turns[0].answer
    for one, other in zip(grounded(read), grounded(drawn), strict=True):
        assert one[:3] == other[:3] and np.array_equal(one[3], other[3])


@pytest.mark.parametrize("name, block, splits", KINDS)
def test_the_reader_gives_captions_offsets_and_masks(
    name: str, block: int, splits: tuple[str, ...], write: Export
) -> None:
    root, parts = write("gcg", "train", "dev")
    keep = bool if block == gcg.FLICKR else gcg.has_distinct_phrases
    for part in [one for one in parts if one.name in splits]:
        dataset = build_dataset(name, root / FOLDERS[name], split=part.name)
        drawn = [sample for _, sample in part.draw("gcg", block=block, keep=keep)]
        assert len(dataset) == len(drawn) == 3
        for index, sample in enumerate(drawn):
            assert_same_pictures(dataset[index], sample.frames)
            assert_same_captions(dataset[index], sample)


def read_truth(root: Path, split: str, kind: str) -> dict:
    return json.loads((root / gcg.ANNOTATIONS / f"gcg_val_test/{split}_gcg_coco_{kind}_gt.json").read_text())


def test_evaluation_has_a_mask_for_each_phrase_in_order(write: Export) -> None:
    root, parts = write("gcg", "dev")
    pictures = {path.stem for path in (root / gcg.PICTURES / "grandf/val_test").iterdir()}
    assert [part.name for part in parts] == ["val", "test"] and len(pictures) == 6
    for part in parts:
        captions, masks = read_truth(root, part.name, "caption"), read_truth(root, part.name, "mask")
        drawn = [sample for _, sample in part.draw("gcg", block=gcg.GRANDF, keep=gcg.has_distinct_phrases)]
        ids = {one["id"] for one in captions["images"]}
        assert len(ids) == len(drawn) == 3 and ids <= pictures
        pictures -= ids
        for caption, sample in zip(captions["annotations"], drawn, strict=True):
            mine = [one for one in masks["annotations"] if one["image_id"] == caption["image_id"]]
            assert caption["caption"] == sample.turns[0].answer
            for label, one, (text, _, _, mask) in zip(caption["labels"], mine, grounded(sample), strict=True):
                assert label == text and np.array_equal(decode_rle(one["segmentation"]), mask)
                assert one["area"] == mask.sum()
