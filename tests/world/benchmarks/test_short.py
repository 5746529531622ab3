import json
from dataclasses import replace

import numpy as np
import pytest
from support.fake_answers import FakePredictor, fake, no_masks, say_nothing, tell_truth

from sa2va.checkpoints.find import find_model
from sa2va.evaluation.benchmark import Figure, Selection
from sa2va.evaluation.catalog import build_benchmarks, list_benchmarks
from sa2va.evaluation.runner import run
from sa2va.inference.results import Prediction
from sa2va.types import Sample, Turn
from sa2va.world.benchmarks import short as world
from sa2va.world.scenes.splits import REPORT, Split

ASKED = sorted(set(list_benchmarks("world")) - {"world/long"})  # that one is played, not asked: test_long.py
CLIPS = ("video", "occlusion", "video_conversation", "video_caption")


def figures(name: str, answer, num_items: int | None = None, seed: int = 5) -> list[Figure]:
    number = num_items or (2 if name.removeprefix("world/") in CLIPS else 6)
    (benchmark,) = build_benchmarks([name], seed=seed, limit=number)
    benchmark = replace(benchmark, load=world.keep(benchmark.load))
    return benchmark.summarize(run(benchmark, FakePredictor(benchmark, answer)))


@pytest.mark.parametrize("name", ASKED)
def test_the_truth_is_perfect(name: str) -> None:
    found = figures(name, tell_truth)
    counted = [figure for figure in found if figure.num_items]
    assert counted
    for figure in counted:
        is_error = "calibration" in figure.name
        assert figure.value == pytest.approx(0.0 if is_error else 1.0), figure
        if figure.num_items > 1:  # one picture has no interval
            assert (figure.low, figure.high) == (pytest.approx(figure.value), pytest.approx(figure.value))
        assert figure.passed is not False
        assert figure.chance is not None or figure.bar is None


@pytest.mark.parametrize("name", sorted(set(ASKED) - {"world/absent", "world/calibration", "world/video"}))
def test_silence_scores_nothing(name: str) -> None:
    for figure in figures(name, say_nothing):
        assert figure.value == 0.0 if figure.num_items else figure.passed is not True


def test_silence_is_right_about_absent_objects_only() -> None:
    there, not_there, _, unseen, both = figures("world/absent", say_nothing, 12)
    assert (there.value, not_there.value) == (0.0, 1.0)
    assert unseen.value == 1.0
    assert both.value == 0.5
    assert there.num_items + not_there.num_items == 12


def test_silence_about_a_clip_is_right_in_the_frames_without_the_object() -> None:
    (benchmark,) = build_benchmarks(["world/video"], seed=5, limit=4)
    hidden = [1 - world.true_mask(benchmark.load(index)).any((1, 2)).mean() for index in range(4)]
    assert figures("world/video", say_nothing, 4)[0].value == pytest.approx(np.mean(hidden))


def test_a_random_object_reaches_chance() -> None:
    rng = np.random.default_rng(1)

    def guess(sample: Sample, turn: Turn, forced: bool) -> Prediction:
        objects = world.scene_masks(sample)
        return fake("", objects[[int(rng.integers(len(objects)))]])

    for name, number in (("world/referring", 40), ("world/video", 8)):
        for figure in figures(name, guess, number)[:2]:
            assert figure.chance is not None and figure.low is not None and figure.high is not None
            assert figure.low <= figure.chance <= figure.high


def test_masks_of_the_next_scene_reach_exactly_chance() -> None:
    (benchmark,) = build_benchmarks(["world/grounded_caption"], seed=5, limit=6)

    def copy(sample: Sample, turn: Turn, forced: bool) -> Prediction:
        return fake("", benchmark.load(sample.meta["index"] + 1).masks)

    plain, _, iou = figures("world/grounded_caption", copy)
    assert plain.value == pytest.approx(plain.chance)
    assert iou.value == pytest.approx(iou.chance)


@pytest.mark.parametrize("name", ["world/caption", "world/region", "world/video_caption"])
def test_the_next_description_reaches_exactly_chance(name: str) -> None:
    (benchmark,) = build_benchmarks([name], seed=5, limit=4)

    def copy(sample: Sample, turn: Turn, forced: bool) -> Prediction:
        other = benchmark.load((sample.meta["index"] + 1) % 4)
        return fake(other.turns[0].answer, no_masks(sample))

    for figure in figures(name, copy, 4):
        assert figure.value == pytest.approx(figure.chance)
        assert figure.chance is not None and figure.chance < 0.9


def test_kinds_come_in_turn_and_pairs_as_promised() -> None:
    kinds = world.kinds(Selection(split="dev", seed=0, limit=6))
    assert [kinds.load(index).meta["kinds"][0] for index in range(6)] == list(world.REFERRING_KINDS)
    seen, unseen = (
        world.referring(Selection(split="dev", seed=0, limit=4)),
        world.heldout(Selection(split="dev", seed=0, limit=4)),
    )
    assert not any(seen.load(index).meta["heldout"][0] for index in range(4))
    assert all(unseen.load(index).meta["heldout"][0] for index in range(4))


def test_occluded_objects_are_back_before_the_end() -> None:
    for index in range(3):
        sample = world.find_passer(Split("test", 1), index)
        assert len(sample.turns) == len(sample.meta["expressions"]) == 1
        target = world.true_mask(sample)
        frames = world.tracks.frames_after_gap(target)
        assert frames and target[frames].any((1, 2)).all()
        assert target[0].any()


def test_the_figures_of_the_card_are_of_the_report_split() -> None:
    report = json.loads((find_model("tiny") / "report.json").read_text())
    assert report["environment"]["seed"] == REPORT.seed
    (benchmark,) = build_benchmarks(["world/absent"], split="report", limit=1)
    assert benchmark.seed == REPORT.seed


def test_clips_are_asked_about_with_at_most_four_frames() -> None:
    for benchmark in build_benchmarks([f"world/{name}" for name in CLIPS], limit=1):
        assert benchmark.options.num_keyframes == 4
        assert len(benchmark.load(0).frames) == 16


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("It is a Large dotted red <p>star</p> [SEG].", [("large", "dotted", "red", "star", None)]),
        (
            "A noisy background with a small blue ring that moves left, a red cross and an object.",
            [("small", "plain", "blue", "ring", "moves left"), (None, "plain", "red", "cross", None)],
        ),
        ("a circle that passes behind another object", [(None, "plain", None, "circle", "passes behind")]),
        ("a circle that stays", [(None, "plain", None, "circle", None)]),
    ],
)
def test_read_objects(text: str, expected: list[tuple]) -> None:
    names = ("size", "texture", "color", "shape", "motion")
    assert [tuple(map(said.get, names)) for said in world.read_objects(text, moving=True)] == expected


def test_the_true_captions_are_read_in_full() -> None:
    """A static object has no motion word; every other word of every object counts."""
    video = world.video_caption(Selection(split="dev", seed=2, limit=8))
    for index in range(8):
        sample = video.load(index)
        said = world.read_objects(sample.meta["answers"][0], moving=True)
        assert len(said) == len(sample.meta["targets"][0])
        assert all(len(one) >= 4 for one in said)
        assert sample.meta["answers"][0].count(" that ") == sum("motion" in one for one in said)


@pytest.mark.parametrize(
    ("names", "seed", "items", "message"),
    [(["world/nothing"], 0, 1, "world/nothing.*use one of"), (None, -1, 5, "seed -1"), (None, 0, 0, "limit 0")],
)
def test_bad_input(names: list[str] | None, seed: int, items: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_benchmarks(names, seed=seed, limit=items)
