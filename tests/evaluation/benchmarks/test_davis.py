"""Check the three protocols of Ref-DAVIS17 on two moving rectangles with four annotators."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.clip_answers import answer_right, answer_with, build_clips, figures_of, items_of
from support.stored_clips import NUM_FRAMES, track
from support.stored_layouts import SIZE

from sa2va.evaluation.benchmarks.davis import merge
from sa2va.metrics.boundary import boundary_f, jaccard

NAME = "ref_davis17/valid"


def test_items_are_annotators_with_an_expression_per_object(tmp_path: Path) -> None:
    benchmark = build_clips(NAME, tmp_path)
    assert list(benchmark.ids[:5]) == ["ab/anno_0", "ab/anno_1", "ab/anno_2", "ab/anno_3", "cd/anno_0"]
    item = benchmark.load(2)
    assert [(one.id, one.number) for one in item.expressions] == [("2", 1), ("6", 2)]
    prompts = [one.prompt for one in benchmark.ask(item)]
    assert prompts == ["Please segment the first box.", "Please segment a late tile."]


def test_swapped_objects_are_right_only_when_matched(tmp_path: Path) -> None:
    benchmark = build_clips(NAME, tmp_path)
    answers = [answer_right(item)[::-1] for item in items_of(benchmark)]
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    assert figures["J&F, matched"] == 1.0
    assert figures["J, official"] == pytest.approx(jaccard(track(0), track(1))[1:-1].mean())
    assert figures["J"] == pytest.approx(jaccard(track(0), track(1)).mean())
    assert figures["F"] == pytest.approx(boundary_f(track(0), track(1)).mean())


def test_the_official_protocol_leaves_out_the_first_and_last_frame(tmp_path: Path) -> None:
    benchmark = build_clips(NAME, tmp_path)
    tracks = np.stack([track(0), track(1)])
    tracks[:, [0, -1]] = False
    answers = [[answer_with(one[None]) for one in tracks] for _ in items_of(benchmark)]
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    assert figures["J&F, official"] == 1.0
    right = (4 / 6 + 5 / 6) / 2  # object 1 is absent from frame 0
    assert figures["J&F"] == pytest.approx(right) and figures["J&F, matched"] == pytest.approx(right)


def test_recall_and_decay_of_an_object_that_is_lost(tmp_path: Path) -> None:
    """Six frames, four of them count, and the last two of these are missed. Quarters share frames."""
    benchmark = build_clips(NAME, tmp_path)
    answers = []
    for item in items_of(benchmark):
        tracks = np.stack([item.truth(frame) for frame in range(NUM_FRAMES)], axis=1)  # (E, T, H, W)
        tracks[:, 3:5] = False
        answers.append([answer_with(one[None]) for one in tracks])
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    for name in ("J", "F"):
        assert figures[f"{name}, official"] == figures[f"{name} recall, official"] == 0.5
        assert figures[f"{name} decay, official"] == 1.0  # the first two frames against the last two


def test_annotators_count_alike_whatever_their_number_of_items(tmp_path: Path) -> None:
    benchmark = build_clips(NAME, tmp_path, limit=5)  # annotator 0 twice
    empty = np.zeros((0, NUM_FRAMES, *SIZE), bool)
    items = items_of(benchmark)
    answers = [answer_right(item) if item.expressions[0].annotator == 0 else [answer_with(empty)] * 2 for item in items]
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    assert figures["J&F, official"] == pytest.approx(1 / 4)
    assert figures["J&F"] == pytest.approx((4 + 6 * 1 / 12) / 10)  # of ten expressions


def test_a_pixel_belongs_to_the_highest_score() -> None:
    wide = np.ones((1, 1, 4, 6), bool)
    half = wide.copy()
    half[..., :3] = False
    first, second = merge([answer_with(wide, 0.4), answer_with(half, 0.7)], 0)
    assert np.array_equal(first, ~half[0, 0]) and np.array_equal(second, half[0, 0])
    first, second = merge([answer_with(wide, 0.5), answer_with(half, 0.5)], 0)
    assert first.all() and not second.any()
    nothing, everything = merge([answer_with(wide[:0]), answer_with(wide, 0.0)], 0)
    assert not nothing.any() and everything.all()


def test_several_masks_of_an_answer_have_their_own_scores() -> None:
    left, right = np.zeros((2, 1, 2, 4), bool)
    left[..., :2], right[..., 2:] = True, True
    both, other = merge([answer_with(np.stack([left, right]), [0.9, 0.1]), answer_with((left | right)[None], 0.5)], 0)
    assert np.array_equal(both, left[0]) and np.array_equal(other, right[0])


def random_tracks(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Move, drop and blur true masks (E, T, H, W) at random."""
    moved = np.stack([np.roll(one, rng.integers(-4, 5, 2), axis=(1, 2)) for one in truth])
    moved[rng.random(moved.shape[:2]) < 0.2] = False
    return moved[rng.permutation(len(moved))] ^ (rng.random(moved.shape) < rng.choice([0.0, 0.02]))


@pytest.mark.parametrize("seed", range(10))
def test_all_protocols_follow_their_definition(tmp_path: Path, seed: int) -> None:
    """Merge by argmax over a background, and match by trying every order."""
    rng = np.random.default_rng(seed)
    benchmark = build_clips(NAME, tmp_path)
    truth = np.stack([track(0), track(1)])
    answers, alone, official, matched = [], [], {k: [] for k in range(4)}, {k: [] for k in range(4)}
    for item in items_of(benchmark):
        masks, scores = random_tracks(rng, truth), rng.random(2)
        answers.append([answer_with(one[None], score) for one, score in zip(masks, scores, strict=True)])
        values = np.concatenate([np.full((1, *masks.shape[1:]), 1e-9), masks * (scores + 1)[:, None, None, None]])
        merged = values.argmax(0) == np.array([1, 2])[:, None, None, None]
        annotator = item.expressions[0].annotator
        for place in range(2):
            alone.append(pair_jf(masks[place], truth[place]))
            official[annotator].append(pair_jf(merged[place, 1:-1], truth[place, 1:-1]))
        orders = [
            np.mean([pair_jf(merged[o[n]], truth[n]) for n in range(2)]) for o in itertools.permutations(range(2))
        ]
        matched[annotator].append(max(orders))
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    assert figures["J&F"] == pytest.approx(np.mean(alone), abs=1e-9)
    assert figures["J&F, official"] == pytest.approx(np.mean([*official.values()]), abs=1e-9)
    assert figures["J&F, matched"] == pytest.approx(np.mean([*matched.values()]), abs=1e-9)


def pair_jf(pred: np.ndarray, truth: np.ndarray) -> float:
    return float((jaccard(pred, truth).mean() + boundary_f(pred, truth).mean()) / 2)
