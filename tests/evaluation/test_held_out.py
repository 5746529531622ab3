"""Check the held-out benchmark: scores of known answers, blind masks, and the comparison of two models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_answers import fake
from support.own_pictures import SIDE, write_squares

from sa2va.data.own.dataset import OwnDataset, build
from sa2va.data.stored import DrawConfig
from sa2va.evaluation.before_after import compare, draw_best_and_worst
from sa2va.evaluation.benchmark import Benchmark, ask_each
from sa2va.evaluation.held_out import (
    CENTER_SIDES,
    BlindMasks,
    center_box,
    choose_center,
    held_out,
    largest_random_box,
    true_masks,
    whole_picture,
)
from sa2va.evaluation.runner import run
from sa2va.inference.requests import Options, Request


class Painter:
    """Answers with one mask: the red pixels in the first `share` of the columns; nothing at share 0."""

    def __init__(self, share: float) -> None:
        self.share = share

    def predict_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Any]:
        masks = []
        for request in requests:
            mask = np.asarray(request.media)[..., 0] > 200
            mask[:, round(self.share * SIDE) :] = False
            masks.append(mask[None, None] if self.share else np.zeros((0, 1, SIDE, SIDE), bool))
        return [fake("It is [SEG].", mask) for mask in masks]

    def probe_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Any]:
        raise NotImplementedError

    def track(self, source: Any) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> OwnDataset:
    folder = write_squares(tmp_path_factory.mktemp("squares"), 5)
    return build(folder, split="all", draw=DrawConfig(num_expressions=100, groups="union"))


def figures(benchmark: Benchmark, share: float) -> dict[str, float | None]:
    records = run(benchmark, Painter(share))
    return {figure.name: figure.value for figure in benchmark.summarize(records)}


def test_the_truth_scores_one_and_nothing_scores_zero(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    assert len(benchmark) == 5
    right, nothing = figures(benchmark, 1.0), figures(benchmark, 0.0)
    assert right["cIoU"] == right["mean IoU"] == 1
    assert nothing["cIoU"] == nothing["mean IoU"] == 0
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


def test_blind_masks_have_their_shapes() -> None:
    assert whole_picture((3, 4)).all()
    box = center_box((40, 60), 0.5)
    assert box.sum() == 20 * 30
    assert box[10:30, 15:45].all()
    rng = np.random.default_rng(0)
    areas = [largest_random_box((40, 60), rng).mean() for _ in range(200)]
    assert 0.3 < np.mean(areas) < 0.7  # one random box covers a ninth on average
    first = BlindMasks(seed=3).draw((40, 60), 2)
    assert all((a == b).all() for a, b in zip(first, BlindMasks(seed=3).draw((40, 60), 2), strict=True))


def test_the_center_box_is_chosen_by_ciou(dataset: OwnDataset) -> None:
    truths = [truth for sample in dataset for _, truth in true_masks(sample)]

    def ciou(side: float) -> float:
        box = center_box((SIDE, SIDE), side)
        return sum((box & t).sum() for t in truths) / sum((box | t).sum() for t in truths)

    assert choose_center(dataset) == max(CENTER_SIDES, key=ciou)


def test_the_change_is_paired(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    before, after = run(benchmark, Painter(0.5)), run(benchmark, Painter(1.0))
    report = compare(benchmark, before, after)
    values = {part: {f["name"]: f["value"] for f in report[part]} for part in ("before", "after")}
    assert report["num_expressions"] == report["num_records"] == 5
    for name in ("cIoU", "mean IoU"):
        change = report["change"][name]
        assert change["value"] == pytest.approx(values["after"][name] - values["before"][name])
        assert change["low"] <= change["value"] <= change["high"]
    before[0]["rows"][0]["question"] = "another"
    with pytest.raises(ValueError, match="held-out data changed since the first measurement"):
        compare(benchmark, before, after)


def test_best_and_worst_answers_are_drawn(dataset: OwnDataset) -> None:
    benchmark = held_out(dataset)
    painter = Painter(0.6)
    sheet = draw_best_and_worst(painter, benchmark, run(benchmark, painter))
    assert sheet.ndim == 3
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 2 * SIDE


def test_every_expression_is_asked(tmp_path: Path) -> None:
    dataset = build(write_squares(tmp_path, 2), split="all", draw=DrawConfig(num_expressions=100))
    benchmark = held_out(dataset, num_items=1)
    assert len(benchmark) == 1
    assert len(ask_each(benchmark.load(0))) == len(dataset.records[0].expressions) == 1
