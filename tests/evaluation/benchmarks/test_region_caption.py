"""Check the benchmark of region captions: requests, records, the cleaning of the released code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stored_layouts import SIZE, rectangle_mask
from support.stored_pictures import BOXES, write_region_captions

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.benchmarks.region_caption import clean_as_released, refcocog
from sa2va.evaluation.prompts import REGION


@pytest.fixture
def benchmark_val(tmp_path: Path) -> Benchmark[Any]:
    write_region_captions(tmp_path / "region_caption")
    return refcocog(Selection(split="val", root=tmp_path))


def test_every_expression_is_asked_with_its_mask(benchmark_val: Benchmark[Any]) -> None:
    assert benchmark_val.ids == ["0", "1", "2"] and benchmark_val.ask is not None
    for place, box in enumerate((BOXES[0], BOXES[1], BOXES[0])):
        (request,) = benchmark_val.ask(benchmark_val.load(place))
        assert request.prompt == REGION["ours"] == "Describe region1."
        (region,) = request.regions
        assert np.array_equal(region, rectangle_mask(*box))


def test_a_record_keeps_both_forms_of_the_answer(benchmark_val: Benchmark[Any]) -> None:
    answer = Answer(text="<vp>region1</vp> shows This box.", size=SIZE)
    record = benchmark_val.score(benchmark_val.load(1), [answer])
    assert (record["caption"], record["cleaned"]) == ("region1 shows This box.", "Th box.")
    assert record["coco"] == 0
    assert record["references"] == ["the tall box"]
    assert record["group"] == "COCO_train2014_000000000000.jpg"  # of both its regions
    assert benchmark_val.score(benchmark_val.load(0), [answer])["group"] == record["group"]


@pytest.mark.parametrize(
    "said, cleaned",
    [
        ("The region marked by region1 is a dog.", "a dog."),
        ("Region1: a sister's hat", "a ster's hat"),
        ("'A cat'", "A cat"),
        ("", ""),
    ],
)
def test_answers_are_cleaned_as_the_released_code_does(said: str, cleaned: str) -> None:
    assert clean_as_released(said) == cleaned


def test_a_limit_takes_the_first_items(tmp_path: Path) -> None:
    write_region_captions(tmp_path / "region_caption")
    assert refcocog(Selection(split="val", root=tmp_path, limit=2)).ids == ["0", "1"]
