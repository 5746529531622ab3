"""Export reasoning segmentation, and compare what the core reads with the drawn samples."""

import numpy as np
from world.export.conftest import Export
from world.export.reading import EVERY, asked, assert_same_pictures

from sa2va.data.catalog import FOLDERS
from sa2va.data.reasonseg import reasonseg as read_reasonseg
from sa2va.world.export import reasonseg


def test_the_reader_gives_questions_and_phrases_about_one_object(write: Export) -> None:
    root, parts = write("reasonseg", "train", "dev", items=3)
    forms, num_ignored = set(), 0
    for part in parts:
        dataset = read_reasonseg(root / FOLDERS["reasonseg"], split=part.name, draw=EVERY)
        for index, (number, sample, chosen) in enumerate(reasonseg.draw(part)):
            read, target = dataset[index], sample.masks[chosen.place]
            ignored = np.zeros_like(target)
            if not part.is_training and number % 3:
                num_ignored += 1
                ignored = reasonseg.mark_ignored(target[0])[None]
                assert (ignored & target).any() and (ignored & ~target).any()
            tracks = dataset.records[index].ignored
            assert tracks is not None and np.array_equal(tracks.masks([0], [0])[0], ignored)
            forms.add(chosen.is_sentence)
            assert_same_pictures(read, sample.frames)
            assert {asked(turn.question, chosen.texts) for turn in read.turns} == set(chosen.texts)
            assert all(turn.question in chosen.texts for turn in read.turns) == chosen.is_sentence
            for turn in read.turns:
                masks = read.tracks.masks(turn.spans[0].objects, [0])
                assert np.array_equal(masks[0], target & ~ignored)
        assert len(dataset) == 3
    assert [part.name for part in parts] == ["train", "val", "test"]
    assert forms == {True, False} and num_ignored == 4
