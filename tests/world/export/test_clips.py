"""Export the video layouts, and compare what the core reads with the drawn samples."""

import json
from pathlib import Path

import numpy as np
import pytest
from world.export.conftest import Export
from world.export.reading import EVERY, asked, assert_same_answers, assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.types import Sample
from sa2va.world.export import mevis, refsav, refytvos, revos
from sa2va.world.export.clips import NUM_EXPRESSIONS, WrittenClip, names_one
from sa2va.world.export.layout import Part, build_parts
from sa2va.world.export.reasoning import ask_for_objects
from sa2va.world.language.descriptions import describe
from sa2va.world.language.expressions import CLIP_KINDS
from sa2va.world.language.grammar import to_motion_words
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.tasks.items import draw_item

SINGLE = [kind for kind in CLIP_KINDS if kind not in ("group", "absent")]


def draw(part: Part, block: int) -> list[Sample]:
    drawn = part.draw("video_refseg", block=block, keep=names_one, num_turns=NUM_EXPRESSIONS, empty_share=0.0)
    return [sample for _, sample in drawn]


def read(name: str, root: Path, split: str) -> list[Sample]:
    dataset = build_dataset(name, root / FOLDERS[name], split=split, draw=EVERY)
    return [dataset[index] for index in range(len(dataset))]


@pytest.mark.parametrize(
    "layout, name, block, kinds, splits",
    [
        ("mevis", "mevis", mevis.BLOCK, list(CLIP_KINDS), ("train", "valid_u")),
        ("refytvos", "refytvos", refytvos.REFYTVOS_BLOCK, SINGLE, ("train", "valid")),
    ],
)
def test_the_reader_gives_the_drawn_samples(
    layout: str, name: str, block: int, kinds: list[str], splits: tuple[str, str], write: Export
) -> None:
    root, parts = write(layout, "train", "dev", items=2)
    for part, split in zip(parts, splits, strict=True):
        found, drawn = read(name, root, split), draw(part, block)
        assert len(found) == len(drawn) == 2
        for one, sample in zip(found, drawn, strict=True):
            assert_same_pictures(one, sample.frames)
            assert_same_answers(one, sample, kinds)


@pytest.mark.parametrize("split, place", [("train", 0), ("valid", 1)])
def test_davis_describes_each_object_four_times(split: str, place: int, write: Export) -> None:
    root, parts = write("davis", "train", "dev", items=2)
    file = root / f"video_datas/davis17/meta_expressions/{split}/meta_expressions.json"
    videos = json.loads(file.read_text())["videos"]
    for video, sample in zip(videos.values(), draw(parts[place], refytvos.DAVIS_BLOCK), strict=True):
        objects = [one["obj_id"] for one in video["expressions"].values()]
        assert objects == [one for one in sorted(set(objects)) for _ in range(4)]
        clip = WrittenClip(0, "", [], sample)
        said = {one.text: one.objects for one in refytvos.describe_each(clip, parts[place])}
        texts = [one["exp"] for one in video["expressions"].values()]
        assert set(texts) == set(said)
    for one, sample in zip(read("ref_davis17", root, split), draw(parts[place], refytvos.DAVIS_BLOCK), strict=True):
        said = {
            each.text: each.objects for each in refytvos.describe_each(WrittenClip(0, "", [], sample), parts[place])
        }
        assert len(one.turns) == len(said)
        for turn in one.turns:
            (row,) = said[asked(turn.question, list(said))]
            masks = one.tracks.masks(turn.spans[0].objects, range(one.num_frames))
            assert np.array_equal(masks[0], sample.masks[row])


def test_revos_asks_questions_with_masks_and_keeps_their_types(write: Export) -> None:
    root, parts = write("revos", "train", "dev", items=3)
    num_questions = 0
    for part, split in zip(parts, ("train", "valid"), strict=True):
        for one, sample in zip(read("revos", root, split), draw(part, revos.BLOCK), strict=True):
            questions = {each.text: each.objects for each in ask_for_objects(sample, part.seed)}
            types = dict(zip([turn.question for turn in one.turns], one.meta["type_ids"], strict=True))
            assert {text for text, kind in types.items() if kind == revos.REASONING} == set(questions)
            for turn in one.turns:
                if turn.question in questions:
                    masks = one.tracks.masks(turn.spans[0].objects, range(one.num_frames))
                    assert np.array_equal(masks, sample.masks[list(questions[turn.question])])
                assert (types[turn.question] == revos.ABSENT) == (not turn.spans)
            num_questions += len(questions)
            assert_same_pictures(one, sample.frames)
    assert num_questions >= 3
    foreground = json.loads((root / revos.FOLDER / "mask_dict_foreground.json").read_text())
    assert len(foreground) == 6


@pytest.mark.parametrize("split, place", [("train", 0), ("valid", 1)])
def test_refsav_has_long_and_short_captions_of_the_annotated_frames(split: str, place: int, write: Export) -> None:
    root, parts = write("refsav", "train", "dev", items=2)
    dataset = build_dataset("refsav", root / FOLDERS["refsav"], split=split, draw=EVERY)
    for index, sample in enumerate(draw(parts[place], refsav.BLOCK)):
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
    part = build_parts(["train"], None, 40)[0]
    kinds = set()
    for number in range(part.num_items):
        scene, _ = draw_item("video_refseg", part.seed, part.split, number)
        for place, thing in enumerate(scene.objects):
            text = refsav.write_long_caption(scene, place)
            assert text.startswith(f"The object is {describe(thing)}.")
            assert text.endswith(f"It {' '.join(to_motion_words(thing.motion.kind)[1:])}.")
            kinds.add(thing.motion.kind)
            outside = not (0 <= thing.x < 1 and 0 <= thing.y < 1)
            assert not (outside and "At the start it is" in text)
    assert kinds == set(MOTIONS)
