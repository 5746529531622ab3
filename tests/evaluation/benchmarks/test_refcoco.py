"""Check RefCOCO, gRefCOCO and ReasonSeg: figures of known answers, computed by hand."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scripted_model import ScriptedModel
from support.stored_layouts import rectangle_mask, write_pickle, write_refcoco
from support.stored_pictures import write_grefcoco, write_reasonseg

from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.benchmarks.grefcoco import grefcoco
from sa2va.evaluation.benchmarks.reasonseg import reasonseg
from sa2va.evaluation.benchmarks.refcoco import refcoco, refcoco_plus, refcocog
from sa2va.evaluation.catalog import PUBLIC, build_public
from sa2va.evaluation.runner import run

LEFT, RIGHT = rectangle_mask(2, 3, 10, 12), rectangle_mask(14, 5, 30, 20)  # 72 and 240 px
EMPTY = np.zeros_like(LEFT)


def figures(benchmark: Benchmark[Any], replies: dict[str, list[np.ndarray]]) -> dict[str, float | None]:
    records = run(benchmark, ScriptedModel.by_prompt(replies))
    return {figure.name: figure.value for figure in benchmark.summarize(records)}


def test_every_sentence_of_refcoco_is_an_item_of_its_picture(tmp_path: Path) -> None:
    write_refcoco(tmp_path / "ref_seg/refcoco")
    benchmark = refcoco(Selection(split="val", root=tmp_path))
    assert benchmark.ids == ["2/20/40", "2/20/41", "2/21/42", "2/21/43"]
    found = figures(
        benchmark,
        {
            "Please segment cleaned 20 a.": [LEFT],
            "Please segment cleaned 20 b.": [],
            "Please segment cleaned 21 a.": [rectangle_mask(14, 5, 22, 20), rectangle_mask(22, 5, 30, 20)],
            "Please segment cleaned 21 b.": [rectangle_mask(18, 5, 30, 20)],  # 180 of 240 px
        },
    )
    assert found["cIoU"] == pytest.approx((72 + 0 + 240 + 180) / (72 + 72 + 240 + 240))
    assert found["gIoU"] == pytest.approx((1 + 0 + 1 + 0.75) / 4)
    assert [found[f"Pr@{threshold}"] for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)] == [0.75, 0.75, 0.75, 0.5, 0.5]
    assert found["cIoU of the first mask"] == pytest.approx((72 + 0 + 120 + 180) / (72 + 72 + 240 + 240))
    assert found["answers without a mask"] == 0.25


def test_a_record_tells_picture_expression_and_facts(tmp_path: Path) -> None:
    write_refcoco(tmp_path / "ref_seg/refcoco")
    benchmark = refcoco(Selection(split="val", root=tmp_path, limit=1))
    (record,) = run(benchmark, ScriptedModel.by_prompt({"Please segment cleaned 20 a.": [LEFT]}))
    assert record["group"] == "2" and record["coco"] == 2 and record["expression"] == "cleaned 20 a"
    assert record["overlap"] == [72, 72, 72, 72] and record["score"] == record["ious"][0] == 1
    assert record["facts"]["size"] == "medium" and record["facts"]["targets"] == "one"


@pytest.mark.parametrize(
    "build, folder, refs",
    [(refcoco_plus, "refcoco+", "refs(unc).p"), (refcocog, "refcocog", "refs(umd).p")],
)
def test_the_other_two_are_read_from_their_own_folders(
    tmp_path: Path, build: Callable[[Selection], Benchmark], folder: str, refs: str
) -> None:
    write_refcoco(tmp_path / "ref_seg" / folder, refs)
    benchmark = build(Selection(split="val", root=tmp_path, prompts="released"))
    assert benchmark.ask is not None
    assert benchmark.ask(benchmark.load(0))[0].prompt == " Please segment cleaned 20 a in this image."
    assert "' Please segment EXPRESSION in this image.'" in benchmark.protocol
    (built,) = build_public([f"{folder}/val"], Selection(split="val", root=tmp_path, prompts="released"))
    assert built.name == f"{folder}/val" and built.ids == benchmark.ids


def test_an_empty_mask_is_right_where_nothing_is_meant(tmp_path: Path) -> None:
    write_grefcoco(tmp_path / "ref_seg/grefcoco")
    benchmark = grefcoco(Selection(split="train", root=tmp_path))
    assert benchmark.ids[:4] == ["0/0/0", "0/1/0", "0/2/0", "1/3/0"]
    replies = {  # the same for all three pictures
        "Please segment the left one.": [LEFT],
        "Please segment both.": [LEFT],
        "Please segment a cat.": [EMPTY],
    }
    found = figures(benchmark, replies)
    assert found["N-acc"] == found["T-acc"] == 1
    assert found["cIoU"] == pytest.approx((72 + 72) / (72 + 312))
    assert found["gIoU"] == pytest.approx((1 + 72 / 312 + 1) / 3)
    assert found["Pr@0.9"] == 0.5
    found = figures(benchmark, replies | {"Please segment a cat.": [LEFT], "Please segment both.": []})
    assert found["N-acc"] == 0 and found["T-acc"] == 0.5
    assert found["cIoU"] == pytest.approx(72 / (72 + 312 + 72))
    assert found["gIoU"] == pytest.approx(1 / 3)


def test_items_of_a_figure_are_those_that_count(tmp_path: Path) -> None:
    write_grefcoco(tmp_path / "ref_seg/grefcoco")
    benchmark = grefcoco(Selection(split="train", root=tmp_path))
    questions = ("the left one", "both", "a cat")
    records = run(benchmark, ScriptedModel.by_prompt({f"Please segment {one}.": [] for one in questions}))
    records = [record | {"group": number} for number, record in enumerate(records)]
    number = {figure.name: figure.num_items for figure in benchmark.summarize(records)}
    num_present = sum(record["present"] for record in records)
    assert 0 < num_present < len(records) == number["gIoU"] == number["cIoU"]
    assert number["T-acc"] == number["Pr@0.5"] == num_present
    assert number["N-acc"] == len(records) - num_present


def test_ignored_pixels_of_reasonseg_do_not_count(tmp_path: Path) -> None:
    write_reasonseg(tmp_path / "reason_seg/ReasonSeg")
    benchmark = reasonseg(Selection(split="train", root=tmp_path))
    assert benchmark.ids == ["a/0", "b/0", "a/1"]  # first texts first
    target, hole = rectangle_mask(2, 3, 11, 13), rectangle_mask(5, 5, 9, 10)  # with the pixels that outlines touch
    other = rectangle_mask(14, 5, 31, 21)
    found = figures(
        benchmark,
        {
            "What could be opened here": [target],
            "Where is the lid?": [hole],
            "Please segment the café's box.": [rectangle_mask(14, 5, 31, 13)],
        },
    )
    area, whole = int(target.sum() - hole.sum()), int(other.sum())
    assert found["gIoU"] == pytest.approx((1 + 0.5) / 2)
    assert found["cIoU"] == pytest.approx((area + whole / 2) / (area + whole))
    assert found["gIoU, long queries"] == 1 and found["gIoU, short queries"] == 0.5
    assert found["gIoU, every text"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["cIoU, every text"] == pytest.approx((area + whole / 2) / (2 * area + whole))


def test_the_released_wording_asks_for_a_mask_after_a_sentence(tmp_path: Path) -> None:
    write_reasonseg(tmp_path / "reason_seg/ReasonSeg")
    benchmark = reasonseg(Selection(split="train", root=tmp_path, prompts="released"))
    assert benchmark.ask is not None
    asked = [benchmark.ask(benchmark.load(index))[0].prompt for index in range(2)]
    assert asked[0] == "What could be opened here Please respond with segmentation mask."
    assert asked[1] == " Please segment the café's box in this image."


def test_the_pooled_split_is_asked_only_by_name(tmp_path: Path) -> None:
    folder = write_refcoco(tmp_path / "ref_seg/refcoco")
    refs = pickle.loads((folder / "refs(unc).p").read_bytes())
    for ref, split in zip(refs, ("testA", "testB", "testA", "testB", "val", "val"), strict=True):
        ref["split"] = split
    write_pickle(folder / "refs(unc).p", refs)
    apart = {
        one.name: len(one) for one in build_public(["refcoco", "refcoco/test"], Selection(split="", root=tmp_path))
    }
    assert apart == {"refcoco/val": 4, "refcoco/testA": 4, "refcoco/testB": 4, "refcoco/test": 8}


def test_all_means_every_dataset_that_is_there(tmp_path: Path) -> None:
    write_refcoco(tmp_path / "ref_seg/refcoco")
    with pytest.raises(ValueError, match=r"no reference of split 'testA'"):
        build_public(["all"], Selection(split="", root=tmp_path))
    with pytest.raises(ValueError, match="holds no data of any benchmark"):
        build_public(["all"], Selection(split="", root=tmp_path / "ref_seg"))
    assert PUBLIC["own"].place is None
