"""Export reasoning segmentation, and compare what the core reads with the drawn samples."""

import numpy as np
from world.export.conftest import Export
from world.export.reading import EVERY, asked, assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.world.export import reasonseg


def test_the_reader_gives_questions_and_phrases_about_one_object(write: Export) -> None:
    root, parts = write("reasonseg", "train", "dev", items=4)
    forms = set()
    for part, split in zip(parts, ("train", "val"), strict=True):
        dataset = build_dataset("reasonseg", root / FOLDERS["reasonseg"], split=split, draw=EVERY)
        drawn = part.draw(
            "refseg",
            block=reasonseg.BLOCK,
            keep=lambda one, seed=part.seed: reasonseg.choose_object(one, seed),
            empty_share=0.0,
        )
        for index, (_, sample) in enumerate(drawn):
            read, chosen = dataset[index], reasonseg.choose_object(sample, part.seed)
            assert chosen is not None
            forms.add(chosen.is_sentence)
            assert_same_pictures(read, sample.frames)
            assert {asked(turn.question, chosen.texts) for turn in read.turns} == set(chosen.texts)
            assert all(turn.question in chosen.texts for turn in read.turns) == chosen.is_sentence
            for turn in read.turns:
                masks = read.tracks.masks(turn.spans[0].objects, [0])
                assert np.array_equal(masks[0], sample.masks[chosen.place])
        assert len(dataset) == 4
    assert forms == {True, False}
