"""Export marked regions, and compare what the core reads with the drawn samples."""

import numpy as np
from world.export.conftest import Export
from world.export.reading import EVERY, assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.types import Sample
from sa2va.world.export import osprey
from sa2va.world.language.descriptions import describe
from sa2va.world.tasks.items import draw_item


def assert_same_regions(read: Sample, drawn: Sample) -> None:
    assert_same_pictures(read, drawn.frames)
    assert len(read.turns[0].regions) == len(drawn.turns[0].regions)
    assert all(np.array_equal(*pair) for pair in zip(read.turns[0].regions, drawn.turns[0].regions, strict=True))


def test_conversations_name_their_regions(write: Export) -> None:
    root, (part,) = write("osprey")
    dataset = build_dataset("osprey", root / FOLDERS["osprey"])
    for index, (_, sample) in enumerate(part.draw("region", block=osprey.CONVERSATION, form="mask")):
        read = dataset[index]
        assert_same_regions(read, sample)
        assert [(turn.question, turn.answer) for turn in read.turns] == [
            (turn.question, turn.answer) for turn in sample.turns
        ]


def test_descriptions_tell_appearance_and_place(write: Export) -> None:
    root, (part,) = write("osprey")
    dataset = build_dataset("osprey_description", root / FOLDERS["osprey_description"], draw=EVERY)
    for index, (_, sample) in enumerate(part.draw("region", block=osprey.DESCRIPTION, form="mask")):
        read = dataset[index]
        assert_same_regions(read, sample)
        scene, _ = draw_item("region", part.seed, part.split, sample.meta["index"])
        wanted = {
            f"region{rank}": osprey.describe_in_place(scene, target)
            for rank, (target,) in enumerate(sample.meta["targets"], 1)
        }
        answers = {next(name for name in wanted if name in turn.question): turn.answer for turn in read.turns}
        assert answers == wanted
        for text, (target,) in zip(wanted.values(), sample.meta["targets"], strict=True):
            assert text.startswith(f"It is {describe(scene.objects[target])}")
