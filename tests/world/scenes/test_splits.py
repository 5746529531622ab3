"""Tests of the splits of the drawn world: what each shows, names and shares."""

import re
from pathlib import Path

import numpy as np
import pytest

from sa2va.world.language.expressions import expressions
from sa2va.world.language.questions import ask
from sa2va.world.scenes.long_clips import make_long_clip
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import COLORS, HELD_OUT_PAIRS, RESERVED_PAIRS, SHAPES
from sa2va.world.scenes.splits import (
    DEV,
    REPORT,
    RESERVED,
    SEEN_PAIRS,
    UNSEEN_PAIRS,
    Split,
    find_split,
    unseen_pairs,
    withheld_pairs,
)
from sa2va.world.tasks.catalog import conversation, refseg
from sa2va.world.tasks.exchanges import draw_exchanges

ROOT = Path(__file__).parents[3]
SHOWN = {"train": SEEN_PAIRS, DEV.name: SEEN_PAIRS | HELD_OUT_PAIRS, REPORT.name: SEEN_PAIRS | HELD_OUT_PAIRS}
SHOWN[RESERVED] = SEEN_PAIRS | RESERVED_PAIRS


def said_pairs(text: str) -> set[tuple[str, str]]:
    """Return the pairs that stand side by side in a text."""
    words = re.findall("[a-z]+", text)
    return {pair for pair in zip(words, words[1:], strict=False) if pair[0] in COLORS and pair[1] in SHAPES}


def test_both_sets_of_pairs_are_apart_and_leave_every_word_to_training() -> None:
    assert len(HELD_OUT_PAIRS) == len(RESERVED_PAIRS) == 12
    assert not HELD_OUT_PAIRS & RESERVED_PAIRS
    assert {shape for _, shape in RESERVED_PAIRS} == set(SHAPES)
    assert {color for color, _ in RESERVED_PAIRS} == set(COLORS)
    assert len(SEEN_PAIRS) == len(COLORS) * len(SHAPES) - 24


@pytest.mark.parametrize("split", list(SHOWN))
@pytest.mark.parametrize("moving", [False, True])
def test_a_split_shows_its_own_pairs_alone(split: str, moving: bool) -> None:
    scenes = [make_scene(3, split, index, moving=moving) for index in range(60)]
    shown = {thing.pair for scene in scenes for thing in scene.objects}
    assert shown <= SHOWN[split]
    assert bool(shown & UNSEEN_PAIRS) is (split != "train")
    if split != "train":
        asked = [make_scene(3, split, index, moving=moving, require_heldout=True) for index in range(20)]
        assert all(any(thing.pair in unseen_pairs(split) for thing in scene.objects) for scene in asked)


def test_long_clips_show_seen_pairs_alone() -> None:
    assert {thing.pair for index in range(5) for thing in make_long_clip(3, index, 150).objects} <= SEEN_PAIRS


@pytest.mark.parametrize("split", list(SHOWN))
def test_absent_objects_have_unseen_pairs_outside_training(split: str) -> None:
    absent = [refseg(5, split, index, num_turns=2, kind="absent", empty_share=0).meta for index in range(60)]
    texts = [text for meta in absent for text in meta["expressions"]]
    named = {pair for text in texts for pair in said_pairs(text)}
    allowed = UNSEEN_PAIRS - withheld_pairs(split)
    flags = [flag for meta in absent for flag in meta["names_unseen"]]
    assert named & UNSEEN_PAIRS <= allowed | unseen_pairs(split)
    assert any(flags) is bool(allowed)
    assert (0.05 < np.mean(flags) < 0.25) == bool(allowed)


@pytest.mark.parametrize("split", ["train", DEV.name])
def test_missing_pairs_are_asked_for_outside_training(split: str) -> None:
    missing = set()
    for index in range(150):
        sample = conversation(5, split, index)
        for turn in sample.turns:
            if turn.question.startswith("Is there") and turn.answer == "no":
                missing |= said_pairs(turn.question)
    assert bool(missing & HELD_OUT_PAIRS) is (split == DEV.name)
    assert not missing & RESERVED_PAIRS


def test_lessons_name_no_unseen_pair_by_default() -> None:
    rng = np.random.default_rng(0)
    said: set[tuple[str, str]] = set()
    for index in range(40):
        scene = make_scene(1, "train", index)
        texts = [written.text for written in expressions(scene, rng, 6)]
        texts += [question.text for question in ask(scene, rng, 6)]
        texts += [exchange.turn.question for exchange in draw_exchanges(scene, rng, 6, 6)]
        said |= {pair for text in texts for pair in said_pairs(text)}
    assert said and not said & UNSEEN_PAIRS


def test_the_seed_of_report_is_written_in_one_place() -> None:
    """Code, tests and docs take it from `REPORT`, so nothing but a quoted figure can have used it."""
    number = str(REPORT.seed)
    files = [path for place in ("src", "tests", "benchmarks") for path in (ROOT / place).rglob("*.py")]
    found = [path.name for path in files if number in path.read_text(encoding="utf-8").replace("_", "")]
    assert found == ["splits.py"]


def test_report_shares_no_scene_with_dev_or_training() -> None:
    for moving in (False, True):
        made = [make_scene(REPORT.seed, split, 0, moving=moving) for split in ("train", DEV.name, REPORT.name)]
        assert len({scene.seed for scene in made}) == 3


def test_find_split() -> None:
    assert find_split("dev") == DEV
    assert find_split("dev", 3) == Split(DEV.name, 3)
    assert find_split("report") == find_split("report", REPORT.seed) == REPORT
    with pytest.raises(ValueError, match="seed 3: split report has one seed"):
        find_split("report", 3)
    with pytest.raises(ValueError, match="split 'test' is unknown: use one of dev, report"):
        find_split("test")
