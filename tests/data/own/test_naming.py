"""Check plurals and names of categories."""

import pytest

from sa2va.data.own.naming import normalize, pluralize

PLURALS = """
person people;bus buses;knife knives;mouse mice;sheep sheep;skis skis;scissors scissors;sandwich sandwiches
bench benches;toothbrush toothbrushes;wine glass|wine glasses;cup cups;donut donuts;tie ties;zebra zebras
couch couches;potted plant|potted plants;broccoli broccoli;tomato tomatoes;piano pianos;baby babies;toy toys
fireman firemen;woman women;human humans;housewife housewives;bookshelf bookshelves;leaf leaves;child children
bottle of wine|bottles of wine;cell phone|cell phones;tv tvs;hair drier|hair driers;goldfish goldfish;box boxes
roof roofs;giraffe giraffes;gas mask|gas masks;lens lenses;cactus cactuses;nucleus nuclei;battery batteries
猫 猫;café cafés
"""
PAIRS = [pair for line in PLURALS.split("\n") for pair in line.split(";") if pair]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_plural_of_a_name(pair: str) -> None:
    one, several = pair.split("|") if "|" in pair else pair.split()
    assert pluralize(one) == several


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("traffic_light", "traffic light"),
        ("Person", "person"),
        ("bow_(weapon)", "bow"),
        (" cup  ", "cup"),
        ("(x)", "(x)"),
    ],
)
def test_a_name_becomes_words(name: str, words: str) -> None:
    assert normalize(name) == words
