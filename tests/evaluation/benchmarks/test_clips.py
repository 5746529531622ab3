"""Check the benchmarks of clips on small data in public layouts: right answers, missing ones, several masks."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.clip_answers import answer_right, answer_with, build_clips, figures_of, items_of, true_masks
from support.stored_clips import NUM_FRAMES, track
from support.stored_layouts import SIZE, rectangle_mask
from support.toy_predictor import ToyPredictor

from sa2va.data.clips import ClipExpression, FrameClip
from sa2va.data.tracks import StoredTracks
from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.benchmarks import davis, mevis
from sa2va.evaluation.benchmarks.clips import CURVE_POINTS, AskedClip, ClipItem, score_expression, thin
from sa2va.evaluation.runner import run
from sa2va.masks import encode_rle
from sa2va.metrics.boundary import boundary_f, jaccard

SCORED = ["mevis/valid_u", "ref_davis17/valid", "revos/valid", "refsav/valid"]
NOTHING = np.zeros((0, NUM_FRAMES, *SIZE), bool)


@pytest.mark.parametrize("name", SCORED)
def test_right_answers_reach_one(tmp_path: Path, name: str) -> None:
    benchmark = build_clips(name, tmp_path)
    figures = figures_of(benchmark, [answer_right(item) for item in items_of(benchmark)])
    assert figures and all(figure.value == ("decay" not in name) for name, figure in figures.items())
    assert figures["J&F"].num_items == 3  # clips, not expressions


@pytest.mark.parametrize("name", [*SCORED, "mevis/valid", "mevis/test", "refytvos/valid"])
def test_a_model_runs_through_every_split(tmp_path: Path, name: str) -> None:
    benchmark = build_clips(name, tmp_path, limit=3)
    predictor = ToyPredictor()
    records = run(benchmark, predictor)
    assert len(records) == 3 and all(figure.value is not None for figure in benchmark.summarize(records)[:3])
    item = benchmark.load(0)
    assert benchmark.ids[0] == item.id and item.record.video == "ab"
    assert predictor.asked[0][0] == benchmark.ask(item)[0].prompt


def test_ids_are_clip_and_expression(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path)
    assert list(benchmark.ids[:5]) == ["ab/0", "ab/1", "ab/2", "ab/10", "cd/0"]
    prompts = [benchmark.ask(item)[0].prompt for item in items_of(benchmark)[:4]]
    assert prompts[1:] == ["Please segment both things.", "Please segment the elephant.", "Which one comes later?"]


def test_no_mask_is_right_where_nothing_shows(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path, limit=4)
    records = [benchmark.score(item, [answer_with(NOTHING)]) for item in items_of(benchmark)]
    assert [one["j"] for one in records] == [one["f"] for one in records] == [0.0, 0.0, 1.0, pytest.approx(1 / 6)]
    figures = {figure.name: figure.value for figure in benchmark.summarize(records)}
    assert figures["J&F"] == pytest.approx((1 + 1 / 6) / 4)
    assert figures["J&F, target present"] == pytest.approx(1 / 18) and figures["J&F, no target"] == 1.0


def test_a_mask_of_nothing_scores_zero_but_an_empty_one_does_not(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path, limit=4)
    item = benchmark.load(2)
    assert not item.expressions[0].objects
    assert benchmark.score(item, [answer_with(track(0)[None])])["score"] == 0.0
    assert benchmark.score(item, [answer_with(np.zeros((1, NUM_FRAMES, *SIZE), bool))])["score"] == 1.0


def test_the_union_counts_and_the_first_mask_beside_it(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path, limit=4)
    record = benchmark.score(benchmark.load(1), [answer_with(np.stack([track(0), track(1)]))])
    both = track(0) | track(1)
    assert record["j"] == record["f"] == 1.0
    assert record["first_j"] == pytest.approx(jaccard(track(0), both).mean())
    assert record["first_f"] == pytest.approx(boundary_f(track(0), both).mean())
    assert (record["num_objects"], record["num_targets"]) == (2, 2) and "scores" not in record


def test_scores_are_means_over_frames(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path, limit=1)
    shifted = np.roll(track(0), 2, axis=2)
    shifted[4] = False
    record = benchmark.score(benchmark.load(0), [answer_with(shifted[None], score=0.5)])
    j, f = jaccard(shifted, track(0)), boundary_f(shifted, track(0))
    assert (record["j"], record["f"]) == (pytest.approx(j.mean()), pytest.approx(f.mean()))
    assert record["score"] == pytest.approx((j.mean() + f.mean()) / 2)
    assert record["curve"] == pytest.approx((j + f) / 2, abs=1e-4) and record["worst"] == 4
    assert record["scores"] == [0.5] * NUM_FRAMES and record["ious"] == pytest.approx(j, abs=1e-4)
    assert record["a"] == pytest.approx((shifted == track(0)).mean())


@pytest.mark.parametrize("length", [1, 5, CURVE_POINTS, 1000])
def test_curves_are_bounded(length: int) -> None:
    values = np.linspace(0, 1, length)
    curve = thin(values)
    assert len(curve) == min(length, CURVE_POINTS)
    assert np.mean(curve) == pytest.approx(values.mean(), abs=0.02)


def test_revos_averages_kinds_whatever_their_sizes(tmp_path: Path) -> None:
    benchmark = build_clips("revos/valid", tmp_path)
    answers = []
    for item in items_of(benchmark):
        kind = item.expressions[0].type_id
        answers.append(answer_right(item) if kind == 0 else [answer_with(NOTHING if kind == 1 else track(0)[None])])
    answers[-2] = answer_right(items_of(benchmark)[-2])  # one question of three
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    reasoning = (1 + 2 / 6) / 3
    assert figures["J&F, referring"] == 1.0 and figures["J&F, reasoning"] == pytest.approx(reasoning)
    assert figures["J&F"] == pytest.approx((1 + reasoning) / 2)
    assert figures["R, reasoning"] == 1.0 and figures["J&F, nothing there"] == 0.0
    right = 1 - track(1).mean((1, 2))
    assert figures["A, reasoning"] == pytest.approx((2 * right.mean() + 1) / 3)


def test_robustness_counts_wrong_pixels_against_all_objects(tmp_path: Path) -> None:
    benchmark = build_clips("revos/valid", tmp_path, limit=1)
    wrong = track(1) | np.roll(track(0), 3, axis=1)
    record = benchmark.score(benchmark.load(0), [answer_with(wrong[None])])
    foreground = (track(0) | track(1)).sum((1, 2))
    expected = np.maximum(1 - (wrong & ~track(0)).sum((1, 2)) / foreground, 0)
    assert 0 < expected.mean() < 1 and record["r"] == pytest.approx(expected.mean(), abs=1e-6)


def test_long_and_short_captions_are_apart(tmp_path: Path) -> None:
    benchmark = build_clips("refsav/valid", tmp_path)
    answers = [
        answer_right(item) if item.expressions[0].type_id == 0 else [answer_with(NOTHING)]
        for item in items_of(benchmark)
    ]
    figures = {name: figure.value for name, figure in figures_of(benchmark, answers).items()}
    assert (figures["J&F, long"], figures["J&F, short"], figures["J&F"]) == (1.0, 0.0, 0.5)
    assert "R" not in figures and "A" in figures


def test_a_server_split_reports_what_was_answered(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/test", tmp_path)
    answers = [[answer_with(track(0)[None] if index % 2 else NOTHING)] for index in range(len(benchmark))]
    (figure,) = figures_of(benchmark, answers).values()
    assert (figure.name, figure.value) == ("expressions with a mask", 0.5)
    assert benchmark.scored_elsewhere and not build_clips("mevis/valid_u", tmp_path / "known").scored_elsewhere
    assert "server" in benchmark.protocol


@pytest.mark.parametrize("masks", [np.zeros((1, 5, *SIZE), bool), np.zeros((1, NUM_FRAMES, 3, 4), bool)])
def test_answers_about_another_clip_are_refused(tmp_path: Path, masks: np.ndarray) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path, limit=1)
    with pytest.raises(ValueError, match=r"^ab/0: the answer has \d frames of \d+x\d+, its clip 6 of 32x24; the two"):
        benchmark.score(benchmark.load(0), [answer_with(masks)])


def test_a_benchmark_needs_its_data() -> None:
    with pytest.raises(ValueError, match="needs the root of its data; add --data DIR"):
        mevis.build(Selection(split="valid_u"))


def test_a_limit_chooses_expressions(tmp_path: Path) -> None:
    whole = build_clips("mevis/valid_u", tmp_path)
    some = mevis.build(Selection(split="valid_u", root=tmp_path, limit=5, seed=3))
    assert len(whole) == 12 and len(some) == 5 and set(some.ids) < set(whole.ids)
    item = some.load(2)
    assert item.id == some.ids[2] and true_masks(item).shape == (1, NUM_FRAMES, *SIZE)


@pytest.mark.parametrize("name", ["mevis", "davis"])
def test_a_long_clip_is_scored_in_constant_memory(tmp_path: Path, name: str) -> None:
    size, peaks = (120, 160), []
    rles = [encode_rle(rectangle_mask(10, 10 + t, 90, 60 + t, size)) for t in range(40)]
    for length in (10, 40):
        expression = ClipExpression(text="it", objects=(0,), id="0", annotator=0, number=1)
        tracks = StoredTracks([rles[:length]], *size)
        names = tuple(f"{t:05d}" for t in range(length))
        record = FrameClip(
            file=tmp_path, video="ab", expressions=(expression,), folder=tmp_path, frames=names, tracks=tracks
        )
        item = ClipItem("ab/0", AskedClip(record), (expression,))
        answer = answer_with(np.zeros((1, length, *size), bool))
        score = score_expression if name == "mevis" else davis.score
        score(item, [answer])  # what is imported and cached at the first call
        tracemalloc.start()
        score(item, [answer])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 5 * size[0] * size[1]  # bytes; 30 frames more, dense, would add 30 of them
