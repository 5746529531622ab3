"""Check the benchmark of own data: scores of known answers, blind masks, and the comparison of two models."""

from pathlib import Path

import numpy as np
import pytest
from support.own_formats import write_clips, write_coco
from support.own_pictures import SIDE, write_squares
from support.scripted_model import ScriptedModel
from support.stored_layouts import write_json

from sa2va.data.own.dataset import OwnDataset, build
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.before_after import compare, draw_best_and_worst
from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.benchmarks.own import choose_center, held_out, own
from sa2va.evaluation.blind import CENTER_SIDES, BlindMasks, center_box
from sa2va.evaluation.runner import run
from sa2va.inference.requests import Request
from sa2va.types import Frames


def paint(share: float) -> ScriptedModel:
    """Return a model that masks the red pixels in the first `share` of the columns; nothing at share 0."""

    def masks(request: Request, frames: Frames) -> np.ndarray:
        mask = frames[..., 0] > 200
        mask[..., round(share * SIDE) :] = False
        return mask[None] if share else np.zeros((0, *mask.shape), bool)

    return ScriptedModel(masks)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> OwnDataset:
    folder = write_squares(tmp_path_factory.mktemp("squares"), 5)
    return build(folder, split="all")


def figures(benchmark: Benchmark, share: float) -> dict[str, float | None]:
    records = run(benchmark, paint(share))
    return {figure.name: figure.value for figure in benchmark.summarize(records)}


def test_the_truth_scores_one_and_nothing_scores_zero(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    assert len(benchmark) == 5
    right, nothing = figures(benchmark, 1.0), figures(benchmark, 0.0)
    assert right["cIoU"] == right["mean IoU"] == 1
    assert nothing["cIoU"] == nothing["mean IoU"] == nothing["T-acc"] == 0
    assert {name: value for name, value in right.items() if " of " in name} == {
        name: value for name, value in nothing.items() if " of " in name
    }


def test_figures_equal_a_plain_computation(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset, blind=BlindMasks(0.5))
    found = figures(benchmark, 0.6)
    truths = [sample.masks.any(0)[0] for sample in dataset]
    cut = [truth & (np.arange(SIDE) < round(0.6 * SIDE)) for truth in truths]
    box = center_box((SIDE, SIDE), 0.5)
    shared = [[(mask & t).sum() for mask in (c, box)] for c, t in zip(cut, truths, strict=True)]
    covered = [[(mask | t).sum() for mask in (c, box)] for c, t in zip(cut, truths, strict=True)]
    assert found["cIoU"] == pytest.approx(np.sum(shared, 0)[0] / np.sum(covered, 0)[0])
    assert found["mean IoU"] == pytest.approx(np.mean(np.array(shared)[:, 0] / np.array(covered)[:, 0]))
    assert found["cIoU of the center box, 50% of each side"] == pytest.approx(
        np.sum(shared, 0)[1] / np.sum(covered, 0)[1]
    )
    assert found["cIoU of the whole picture"] == pytest.approx(np.mean([t.mean() for t in truths]))


def test_the_center_box_is_chosen_by_ciou(dataset: OwnDataset) -> None:
    truths = [sample.masks.any(0)[0] for sample in dataset]

    def ciou(side: float) -> float:
        box = center_box((SIDE, SIDE), side)
        return sum((box & t).sum() for t in truths) / sum((box | t).sum() for t in truths)

    assert choose_center(dataset) == max(CENTER_SIDES, key=ciou)


def test_the_change_is_paired(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    before, after = run(benchmark, paint(0.5)), run(benchmark, paint(1.0))
    report = compare(benchmark, before, after)
    values = {part: {f["name"]: f["value"] for f in report[part]} for part in ("before", "after")}
    assert report["num_expressions"] == report["num_records"] == 5
    for name in ("cIoU", "mean IoU"):
        change = report["change"][name]["difference"]
        assert change["value"] == pytest.approx(values["after"][name] - values["before"][name])
        assert change["low"] <= change["value"] <= change["high"]
    before[0]["expression"] = "another"
    with pytest.raises(ValueError, match="held-out data changed since the first measurement"):
        compare(benchmark, before, after)


def test_best_and_worst_answers_are_drawn(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    painter = paint(0.6)
    sheet = draw_best_and_worst(painter, benchmark, run(benchmark, painter))
    assert sheet.ndim == 3
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 2 * SIDE


def test_every_expression_and_one_of_nothing_is_asked(tmp_path: Path) -> None:
    benchmark = own(Selection(split="all", root=write_coco(tmp_path)))
    assert list(benchmark.ids) == [
        *(f"photo_0.png/{text}" for text in ("the cats", "the left cat", "the right cat", "the dog")),
        "photo_0.png/the traffic light",
        "photo_1.png/the dog",
        f"photo_1.png/{benchmark.load(6).expression.text}",
        f"photo_2.png/{benchmark.load(7).expression.text}",
    ]
    model = ScriptedModel(lambda request, frames: np.ones((1, *frames.shape[:3]), bool))
    found = {figure.name: figure.value for figure in benchmark.summarize(run(benchmark, model))}
    assert model.prompts[0] == "Please segment the cats."
    assert found["N-acc"] == 0 and found["T-acc"] == 1
    assert found["cIoU"] == found["cIoU of the whole picture"] is not None
    assert own(Selection(split="all", root=tmp_path, limit=2)).ids == benchmark.ids[:2]


def test_a_clip_is_scored_over_all_its_frames(tmp_path: Path) -> None:
    write_clips(tmp_path / "JPEGImages", tmp_path / "Annotations")
    write_json(tmp_path / "objects.json", {name: {"1": "cat", "2": "dog"} for name in ("walk", "run")})
    benchmark = own(Selection(split="all", root=tmp_path))
    there = next(index for index, key in enumerate(benchmark.ids) if key == "walk/the cat")
    item = benchmark.load(there)
    assert item.num_frames > 1
    truth = np.stack([item.truth(frame) for frame in range(item.num_frames)])
    first = truth.copy()
    first[1:] = False
    model = ScriptedModel(lambda request, frames: first[None])
    assert benchmark.ask is not None
    answers = [Answer.of(one) for one in model.predict_batch(benchmark.ask(item))]
    record = benchmark.score(item, answers)
    assert record["score"] == pytest.approx(first.sum() / truth.sum())
    assert record["jf"] == pytest.approx((1 + 0 + 0) / 3)  # the first of three frames is right
    assert "J&F of clips" in {figure.name for figure in benchmark.summarize([record])}


def test_an_answer_of_another_size_is_refused(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    with pytest.raises(ValueError, match=r"item 0\.png/the red square: .* 1 masks of 9x8 px; expected 1 of 64x64"):
        benchmark.score(benchmark.load(0), [Answer(text="", size=(8, 9))])


def test_only_some_records_are_asked(tmp_path: Path) -> None:
    dataset = build(write_squares(tmp_path, 3), split="all")
    assert len(held_out(dataset, num_records=2)) == 2
