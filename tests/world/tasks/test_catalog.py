"""Check the samples of the drawn world: pure, right spans, right masks, and answers that are plain text.

Flow: TASKS -> Sample -> phrases, rows and pixels are compared with the scene that the sample was drawn from.
"""

import re

import numpy as np
import pytest

from sa2va.tokens import ADDED_TOKENS
from sa2va.world.language.descriptions import describe, parse_descriptions
from sa2va.world.scenes.scene import HELD_OUT_PAIRS
from sa2va.world.tasks.catalog import TASKS, caption, gcg, refseg, region, video_caption, video_refseg
from sa2va.world.tasks.items import CLIP_FRAMES, SIDE, TASK_ORDER, draw_item, is_clip
from sa2va.world.tasks.referring import REGION_FORMS, mark


def test_every_task_has_scenes_of_its_own() -> None:
    assert tuple(TASKS) and set(TASKS) == set(TASK_ORDER)
    assert len({draw_item(task, 0, "train", 5)[0] for task in TASKS}) == len(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_sample_is_a_pure_function(task: str) -> None:
    first, again, other = TASKS[task](1, "val", 4), TASKS[task](1, "val", 4), TASKS[task](1, "val", 5)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.masks, again.masks)
    told = [[(turn.question, turn.answer, turn.spans) for turn in sample.turns] for sample in (first, again)]
    assert told[0] == told[1]
    assert first.meta == again.meta
    assert not np.array_equal(first.frames, other.frames)
    assert first.frames.shape == (CLIP_FRAMES if is_clip(task) else 1, SIDE, SIDE, 3)
    assert first.task == f"world/{task}"


@pytest.mark.parametrize("task", TASKS)
def test_texts_are_plain_and_meta_is_per_turn(task: str) -> None:
    for index in range(4):
        sample = TASKS[task](2, "val", index)
        assert sample.turns and sample.meta["index"] == index
        assert sample.meta["answers"] == [turn.answer for turn in sample.turns]
        for name in ("kinds", "heldout"):
            assert len(sample.meta[name]) == len(sample.turns)
        for turn in sample.turns:
            assert not any(token in turn.question + turn.answer for token in ADDED_TOKENS)
            assert "  " not in turn.question + turn.answer


def test_training_never_shows_a_held_out_pair() -> None:
    for task in TASKS:
        for index in range(30):
            scene, _ = draw_item(task, 0, "train", index)
            assert not any(obj.pair in HELD_OUT_PAIRS for obj in scene.objects)


@pytest.mark.parametrize("build", [caption, gcg, video_caption])
def test_a_caption_names_everything_from_left_to_right(build) -> None:
    for index in range(6):
        sample = build(3, "val", index)
        scene, _ = draw_item(build.__name__, 3, "val", index)
        order = sorted(scene.objects, key=lambda obj: (obj.x, obj.y))
        found = [tuple(words.values()) for words in parse_descriptions(sample.turns[0].answer)]
        assert found == [(obj.size, obj.texture, obj.color, obj.shape) for obj in order]


def test_grounded_phrases_stand_on_their_objects() -> None:
    for index in range(10):
        sample = gcg(4, "val", index)
        scene, _ = draw_item("gcg", 4, "val", index)
        (turn,) = sample.turns
        assert sorted(row for span in turn.spans for row in span.objects) == list(range(len(scene.objects)))
        assert np.array_equal(sample.masks, scene.render(SIDE).masks)
        for span in turn.spans:
            assert turn.answer[span.start : span.end] == describe(scene.objects[span.objects[0]])


@pytest.mark.parametrize("build", [refseg, video_refseg])
def test_masks_stand_before_the_full_stop(build) -> None:
    for index in range(8):
        sample = build(5, "train", index)
        for turn, targets, present in zip(sample.turns, sample.meta["targets"], sample.meta["present"], strict=True):
            assert bool(targets) is present
            if not turn.spans:
                assert not present and turn.supervised and turn.answer.startswith("There is no ")
                continue
            (span,) = turn.spans
            assert span.start == span.end and turn.answer[span.start :] == "."
            assert turn.answer[span.start - 1] == " "
            shown = sample.masks[list(span.objects)]
            assert turn.supervised is present
            if present:
                assert list(span.objects) == targets and shown.any(axis=(1, 2, 3)).all()
            else:
                assert not shown.any()


def test_an_empty_mask_never_follows_its_own_denial() -> None:
    seen = 0
    for index in range(60):
        sample = refseg(6, "train", index)
        texts = sample.meta["expressions"]
        assert len(set(texts)) == len(texts)
        seen += sum(not turn.supervised for turn in sample.turns)
    assert seen > 10
    clean = [turn for index in range(20) for turn in refseg(6, "train", index, empty_share=0).turns]
    assert all(turn.supervised for turn in clean)


@pytest.mark.parametrize("kind", ["relation", "group", "absent", "ordinal"])
def test_an_evaluation_asks_for_one_kind(kind: str) -> None:
    samples = [refseg(7, "test", index, num_turns=1, kind=kind, empty_share=0) for index in range(15)]
    assert all(sample.meta["kinds"] == [kind] for sample in samples)


def test_a_balanced_set_is_half_absent() -> None:
    present = [refseg(8, "test", i, num_turns=1, kind="balanced", empty_share=0).meta["present"][0] for i in range(120)]
    assert 0.35 < np.mean(present) < 0.65


@pytest.mark.parametrize("heldout", [True, False])
def test_held_out_objects_on_demand(heldout: bool) -> None:
    for index in range(12):
        sample = refseg(9, "test", index, num_turns=3, require_heldout=heldout, empty_share=0)
        told = [h for h, present in zip(sample.meta["heldout"], sample.meta["present"], strict=True) if present]
        assert all(told) if heldout else not any(told)


@pytest.mark.parametrize("form", REGION_FORMS)
def test_regions_mark_what_is_described(form: str) -> None:
    for index in range(8):
        sample = region(10, "val", index, form=form)
        scene, _ = draw_item("region", 10, "val", index)
        masks = scene.render(SIDE).masks[:, 0]
        regions = sample.turns[0].regions
        assert 1 <= len(regions) == len(sample.turns) <= 3
        assert not any(turn.regions for turn in sample.turns[1:])
        for rank, (turn, (target,), marked) in enumerate(
            zip(sample.turns, sample.meta["targets"], regions, strict=True), start=1
        ):
            assert re.search(rf"\bregion{rank}\b", turn.question)
            assert turn.answer == f"It is {describe(scene.objects[target])}."
            assert marked.shape == (SIDE, SIDE) and marked.dtype == bool
            assert (marked & masks[target]).any()
            if form == "mask":
                assert np.array_equal(marked, masks[target])
            if form == "box":
                assert not (masks[target] & ~marked).any()


def test_a_point_lies_inside_a_thin_object() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:50, 20:23] = True
    marked = mark(mask, "point", np.random.default_rng(0))
    assert (marked & mask).any() and marked.sum() < 200


def test_what_no_scene_offers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected some of"):
        refseg(0, "val", 0, kind="riddle")
    with pytest.raises(ValueError, match="no held-out pairs"):
        refseg(0, "train", 0, require_heldout=True)
