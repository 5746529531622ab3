"""Export the video layouts, and compare what the core reads with the drawn samples."""

import json
from pathlib import Path

import numpy as np
import pytest
from world.export.conftest import Export
from world.export.reading import EVERY, asked, assert_same_answers, assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.data.clips import FrameClip, ReferringClips
from sa2va.types import Sample
from sa2va.world.export import mevis, refsav, refytvos, revos
from sa2va.world.export.clips import WrittenClip, draw_samples
from sa2va.world.export.layout import Part
from sa2va.world.export.reasoning import ask_for_objects
from sa2va.world.language.descriptions import describe
from sa2va.world.language.expressions import CLIP_KINDS
from sa2va.world.language.grammar import to_motion_words
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.splits import TRAIN
from sa2va.world.tasks.items import draw_item

SINGLE = [kind for kind in CLIP_KINDS if kind not in ("group", "absent")]


def draw(part: Part, block: int) -> list[Sample]:
    return [sample for _, sample in draw_samples(part, block)]


def read(name: str, root: Path, split: str) -> list[Sample]:
    dataset = build_dataset(name, root / FOLDERS[name], split=split, draw=EVERY)
    return [dataset[index] for index in range(len(dataset))]


def test_mevis_is_read_as_drawn_in_every_split(write: Export) -> None:
    root, parts = write("mevis", "train", "dev", items=2, with_server_masks=True)
    assert [part.name for part in parts] == ["train", "valid_u", "valid", "test"]
    for part in parts:
        found, drawn = read("mevis", root, part.name), [sample for _, sample in mevis.draw(part)]
        assert len(found) == len(drawn) == 2
        for one, sample in zip(found, drawn, strict=True):
            assert_same_pictures(one, sample.frames)
            assert_same_answers(one, sample, list(CLIP_KINDS))
            assert part.is_training or any(not turn.spans for turn in one.turns)


def test_refytvos_is_read_as_drawn_in_every_split(write: Export) -> None:
    root, parts = write("refytvos", "train", "dev", items=2, with_server_masks=True)
    assert [part.name for part in parts] == ["train", "valid"]
    for part in parts:
        found, drawn = read("refytvos", root, part.name), draw(part, refytvos.REFYTVOS_BLOCK)
        assert len(found) == len(drawn) == 2
        for one, sample in zip(found, drawn, strict=True):
            assert_same_pictures(one, sample.frames)
            assert_same_answers(one, sample, SINGLE)


@pytest.mark.parametrize("layout, public", [("mevis", {"valid_u"}), ("refytvos", set())])
def test_splits_of_an_evaluation_server_have_frames_and_expressions_only(
    layout: str, public: set[str], write: Export
) -> None:
    root, parts = write(layout, "dev", items=2)
    for part in [one for one in parts if one.name not in public]:
        dataset = build_dataset(layout, root / FOLDERS[layout], split=part.name)
        assert isinstance(dataset, ReferringClips)
        drawn = mevis.draw(part) if layout == "mevis" else draw_samples(part, refytvos.REFYTVOS_BLOCK)
        for record, (_, sample) in zip(dataset.records, drawn, strict=True):
            assert isinstance(record, FrameClip) and record.tracks is None
            frames = record.media().frames(range(record.num_frames))
            assert frames.shape == sample.frames.shape
            assert {one.text for one in record.expressions} <= set(sample.meta["expressions"])
            assert not any(one.objects for one in record.expressions)
    masks = {"mask_dict.json", "mask_dict.pkl", "Annotations"}
    assert {path.parent.name for path in root.rglob("*") if path.name in masks} == public


@pytest.mark.parametrize("scenes, split", [("train", "train"), ("dev", "valid")])
def test_davis_describes_each_object_four_times(scenes: str, split: str, write: Export) -> None:
    root, (part,) = write("davis", scenes, items=2)
    file = root / f"video_datas/davis17/meta_expressions/{split}/meta_expressions.json"
    videos = json.loads(file.read_text())["videos"]
    for video, sample in zip(videos.values(), draw(part, refytvos.DAVIS_BLOCK), strict=True):
        objects = [one["obj_id"] for one in video["expressions"].values()]
        assert objects == [one for one in sorted(set(objects)) for _ in range(4)]
        clip = WrittenClip(0, "", [], sample)
        said = {one.text: one.objects for one in refytvos.describe_each(clip, part)}
        texts = [one["exp"] for one in video["expressions"].values()]
        assert set(texts) == set(said)
    for one, sample in zip(read("ref_davis17", root, split), draw(part, refytvos.DAVIS_BLOCK), strict=True):
        said = {each.text: each.objects for each in refytvos.describe_each(WrittenClip(0, "", [], sample), part)}
        assert len(one.turns) == len(said)
        for turn in one.turns:
            (row,) = said[asked(turn.question, list(said))]
            masks = one.tracks.masks(turn.spans[0].objects, range(one.num_frames))
            assert np.array_equal(masks[0], sample.masks[row])


def test_revos_asks_questions_with_masks_and_keeps_their_types(write: Export) -> None:
    root, parts = write("revos", "train", "dev", items=3)
    num_questions = 0
    for part in parts:
        for one, (_, sample) in zip(read("revos", root, part.name), revos.draw(part), strict=True):
            questions = {each.text: each.objects for each in ask_for_objects(sample, part.scenes.seed)}
            types = dict(zip([turn.question for turn in one.turns], one.meta["type_ids"], strict=True))
            assert {text for text, kind in types.items() if kind == revos.REASONING} == set(questions)
            for turn in one.turns:
                if turn.question in questions:
                    masks = one.tracks.masks(turn.spans[0].objects, range(one.num_frames))
                    assert np.array_equal(masks, sample.masks[list(questions[turn.question])])
                assert (types[turn.question] == revos.ABSENT) == (not turn.spans)
            assert part.is_training or set(types.values()) == {revos.REFERRING, revos.REASONING, revos.ABSENT}
            num_questions += len(questions)
            assert_same_pictures(one, sample.frames)
    assert num_questions >= 3
    foreground = json.loads((root / revos.FOLDER / "mask_dict_foreground.json").read_text())
    assert len(foreground) == 6


@pytest.mark.parametrize("scenes, split", [("train", "train"), ("dev", "valid")])
def test_refsav_has_long_and_short_captions_of_the_annotated_frames(scenes: str, split: str, write: Export) -> None:
    root, (part,) = write("refsav", scenes, items=2)
    dataset = build_dataset("refsav", root / FOLDERS["refsav"], split=split, draw=EVERY)
    for index, sample in enumerate(draw(part, refsav.BLOCK)):
        one, scene = dataset[index], sample.meta["scene"]
        assert_same_pictures(one, sample.frames)
        texts = {refsav.write_long_caption(scene, row): row for row in refsav.caption_objects(sample)}
        if split == "valid":
            texts |= {text: row for row, short in refsav.caption_objects(sample).items() for text in short}
        assert len(one.turns) == len(texts)
        for turn in one.turns:
            masks = one.tracks.masks(turn.spans[0].objects, range(one.num_frames))
            assert np.array_equal(masks[0], sample.masks[texts[asked(turn.question, list(texts))]])


def test_a_long_caption_tells_appearance_place_and_motion_of_every_object() -> None:
    kinds = set()
    for number in range(40):
        scene, _ = draw_item("video_refseg", 0, TRAIN, number)
        for place, thing in enumerate(scene.objects):
            text = refsav.write_long_caption(scene, place)
            assert text.startswith(f"The object is {describe(thing)}.")
            assert text.endswith(f"It {' '.join(to_motion_words(thing.motion.kind)[1:])}.")
            kinds.add(thing.motion.kind)
            outside = not (0 <= thing.x < 1 and 0 <= thing.y < 1)
            assert not (outside and "At the start it is" in text)
    assert kinds == set(MOTIONS)
