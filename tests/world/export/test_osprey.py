"""Export marked regions, and compare what the core reads with the drawn samples."""

import re

import numpy as np
import pytest
from world.export.conftest import Export
from world.export.reading import EVERY, assert_same_pictures

from sa2va.data import prompts
from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.world.export.osprey import FILES, HALVES, cut_half, describe_in_place, draw_marked, write_existence
from sa2va.world.language.descriptions import describe
from sa2va.world.language.grammar import with_article

NAMES = {
    "osprey": "osprey_conversation",
    "osprey_part": "osprey_part_level",
    "osprey_short": "osprey_short_form",
    "osprey_lvis": "osprey_lvis_positive_negative",
    "osprey_description": "osprey_detail_description",
}


@pytest.mark.parametrize("name, file", NAMES.items())
def test_the_reader_gives_pictures_regions_and_texts(name: str, file: str, write: Export) -> None:
    root, (part,) = write("osprey")
    dataset = build_dataset(name, root / FOLDERS[name], draw=EVERY)
    assert len(dataset) == 3
    for index, (_, marked) in enumerate(draw_marked(part, file)):
        read, (regions, text) = dataset[index], FILES[file](marked)
        assert_same_pictures(read, marked.sample.frames)
        assert all(np.array_equal(*pair) for pair in zip(read.turns[0].regions, regions, strict=True))
        if name == "osprey_description":
            answers = {re.findall(r"region\d", turn.question)[0]: turn.answer for turn in read.turns}
            assert answers == {f"region{number}": one for number, one in enumerate(text["description"], 1)}
            continue
        values = [re.sub(r"<(region\d)>", r"\1", one["value"]) for one in text["conversations"]]
        suffix = f" {prompts.SHORT_ANSWER}" if name in ("osprey_part", "osprey_short") else ""
        assert [turn.question for turn in read.turns] == [f"{value}{suffix}" for value in values[::2]]
        assert [turn.answer for turn in read.turns] == values[1::2]


def test_conversations_are_those_of_the_drawn_samples(write: Export) -> None:
    root, (part,) = write("osprey")
    dataset = build_dataset("osprey", root / FOLDERS["osprey"])
    for index, (_, sample) in enumerate(part.draw("region", form="mask")):
        said = [[(turn.question, turn.answer) for turn in one.turns] for one in (dataset[index], sample)]
        assert said[0] == said[1]


def test_texts_are_true(write: Export) -> None:
    _, (part,) = write("osprey", items=6)
    answers = set()
    for _, marked in draw_marked(part, "osprey_lvis_positive_negative"):
        for thing, text in zip(marked.things, marked.sample.turns, strict=True):
            assert describe_in_place(thing).startswith(f"It is {describe(thing)}") and text.answer
        spoken = write_existence(marked)[1]["conversations"]
        for thing, asked, said in zip(marked.things, spoken[::2], spoken[1::2], strict=True):
            answers.add(said["value"])
            assert (with_article(" ".join(thing.pair)) in asked["value"]) == (said["value"] == "yes")
    assert answers == {"yes", "no"}


def test_two_halves_are_the_whole() -> None:
    mask = np.zeros((8, 8), bool)
    mask[1:6, 2:7] = True
    left, right, upper, lower = (cut_half(mask, half) for half in HALVES)
    assert np.array_equal(left | right, mask) and not (left & right).any() and not left[:, 5:].any()
    assert np.array_equal(upper | lower, mask) and not (upper & lower).any() and not upper[4:].any()
