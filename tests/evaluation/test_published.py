"""Check published values: found by the names that folders and the hub give, in the units of our figures."""

import math
from pathlib import Path

import pytest

from sa2va.evaluation.catalog import PUBLIC, list_public
from sa2va.evaluation.published import CARDS, TABLES, as_markdown, find_published


def value_of(model: str, benchmark: str, figure: str, **options: bool) -> float | None:
    found = [
        one.value for one in find_published(model, **options) if (one.benchmark, one.figure) == (benchmark, figure)
    ]
    return found[0] if found else None


@pytest.mark.parametrize(
    "name",
    [
        "ByteDance/Sa2VA-4B",
        "ByteDance/Sa2VA-4B@v1.0",
        "models/sa2va-4b/",
        "/cache/models--ByteDance--Sa2VA-4B/snapshots/0123abc",
        "C:\\models\\Sa2VA_4B",
    ],
)
def test_a_model_is_found_by_any_of_its_names(name: str) -> None:
    assert value_of(name, "refcoco/val", "cIoU") == 0.824  # of the checkpoint on the hub, not of the first release
    assert value_of(name, "mevis/valid", "J&F") == 0.462


@pytest.mark.parametrize("name", ["tiny", "Sa2VA-40B", "my/finetuned", ""])
def test_other_models_have_none(name: str) -> None:
    assert find_published(name) == []


def test_units_are_those_of_our_figures() -> None:
    assert value_of("Sa2VA-26B", "mme/test", "perception") == 1698
    assert value_of("Sa2VA-26B", "mmbench_video/test", "rating") == 1.45
    assert value_of("Sa2VA-26B", "gcg/val", "AP50, every score 1") == 0.335
    assert value_of("GLaMM-7B", "gcg/val", "METEOR") == 0.162
    assert value_of("GLaMM-7B", "gcg/val", "CIDEr") == 47.2


def test_consistent_video_has_the_values_of_sa2va_i() -> None:
    assert value_of("ByteDance/Sa2VA-8B", "mevis/valid", "J&F", consistent=True) == 0.595
    assert value_of("ByteDance/Sa2VA-8B", "refcoco/val", "cIoU", consistent=True) == 0.826
    assert value_of("ByteDance/Sa2VA-Qwen3-VL-4B", "ref_davis17/valid", "J&F", consistent=True) == 0.759  # it has none


def test_every_row_is_complete_and_plausible() -> None:
    for table in TABLES:
        assert table.source and len(set(table.columns)) == len(table.columns)
        for model, row in table.rows.items():
            assert len(row) == len(table.columns), f"{table.source}: {model}"
            assert not all(map(math.isnan, row)), f"{table.source}: {model}"
    assert all(0 < one.value < 1 for one in CARDS.values() if one.benchmark != "mme/test")


def test_benchmarks_are_those_of_the_catalog() -> None:
    names = {one.benchmark for table in TABLES for one in table.values() if one.benchmark.split("/")[0] in PUBLIC}
    assert names and names <= set(list_public())


def test_the_documentation_has_all_values() -> None:
    """Renewed by `python -m sa2va.evaluation.published`, which prints the page."""
    page = Path(__file__).parents[2] / "docs" / "benchmarks" / "published.md"
    assert page.read_text(encoding="utf-8") == as_markdown()
