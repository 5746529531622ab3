"""Write tables, changes and charts of finished runs, from runs.jsonl."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sa2va.journal import Journal
from sa2va.world.ablations.arms import TABLES
from sa2va.world.ablations.page import judge_sign, update_page, write_changes, write_table
from sa2va.world.ablations.plots import draw_tables
from sa2va.world.ablations.results import Results, Spread, read_runs
from sa2va.world.ablations.runs import RUNS


def row(arm: str, seed: int, **values: Any) -> dict[str, Any]:
    shared = {
        "start": "0123",
        "steps": 100,
        "batch_size": 8,
        "lr": 5e-4,
        "items": 40,
        "train_s": 90,
        "commit": "abcdef0123456",
    }
    figures = {name: values.pop(name) for name in list(values) if name[0].isupper()}
    return {"arm": arm, "seed": seed, "figures": figures, "chance": {"RefCOCO": 14.0}, **shared, **values}


ROWS = (
    row("all", 0, RefCOCO=40.0, MMBench=30.0),
    row("all", 1, RefCOCO=44.0, MMBench=30.0),
    row("no_image_segmentation", 0, RefCOCO=10.0, MMBench=20.0),
    row("no_image_segmentation", 1, RefCOCO=12.0, MMBench=40.0),
    row("no_image_qa", 1, RefCOCO=46.0, MMBench=25.0),
    row("start", 0, RefCOCO=15.0, steps=0),
)


def test_a_table_has_mean_and_deviation_over_seeds_beside_the_papers_row() -> None:
    lines = write_table(TABLES["cotraining"], Results(ROWS)).splitlines()
    assert lines[0] == "| run | seeds | RefCOCO | MMBench |"
    assert lines[2] == "| **all data** | 2 | 42.0 ± 2.8 | 30.0 ± 0.0 |"
    assert lines[3] == "| the paper |  | 77.4 | 68.3 |"
    assert lines[4] == "| **without image QA** | 1 | 46.0 | 25.0 |"
    assert lines[8] == "| **without video QA** | 0 |  |  |"
    assert lines[-2] == "| **before training** | 1 | 15.0 |  |"
    assert lines[-1] == "| chance |  | 14.0 |  |"


def test_changes_are_paired_by_seed_and_compared_with_the_papers_signs() -> None:
    lines = write_changes(TABLES["cotraining"], Results(ROWS)).splitlines()
    assert "| without image segmentation | RefCOCO | -57.2 | -31.0 ± 1.4 | same |" in lines
    assert "| without image segmentation | MMBench | +1.8 | +0.0 ± 14.1 | within noise |" in lines
    assert "| without image QA | RefCOCO | +0.6 | +2.0 | one seed |" in lines
    assert "| without video QA | RefCOCO | +0.6 |  | not run |" in lines


@given(st.floats(-50, 50).filter(bool), st.floats(-50, 50), st.floats(0, 20), st.integers(2, 9))
def test_a_sign_holds_only_beyond_two_standard_errors(theirs: float, mean: float, deviation: float, seeds: int) -> None:
    verdict = judge_sign(theirs, Spread(mean, deviation, seeds))
    assert (verdict == "within noise") == (abs(mean) <= 2 * deviation / math.sqrt(seeds))
    assert judge_sign(-theirs, Spread(-mean, deviation, seeds)) == verdict
    if verdict != "within noise":
        assert {verdict, judge_sign(-theirs, Spread(mean, deviation, seeds))} == {"same", "opposite"}


def write_runs(folder: Path, rows: tuple[dict[str, Any], ...]) -> Path:
    with Journal(folder / RUNS) as journal:
        for number, one in enumerate(rows):
            journal.append(f"{number:032x}", one)
    return folder


def test_a_page_keeps_its_text_and_names_missing_runs(tmp_path: Path) -> None:
    results, page = read_runs(write_runs(tmp_path, ROWS)), tmp_path / "ablations.md"
    update_page(page, results, 2)
    first = page.read_text()
    assert "no_image_qa-0" in first and "no_image_qa-1" not in first and "5 runs of 100 steps" in first
    page.write_text(first.replace("# Ablations\n", "# Ablations\n\nOur own words.\n"))
    update_page(page, Results((*ROWS, row("no_image_qa", 0, RefCOCO=1.0))), 2)
    second = page.read_text()
    assert "Our own words." in second and "no_image_qa-0" not in second and second.count("| run |") == 3
    page.write_text(second.replace("<!-- /seg-tokens -->", ""))
    with pytest.raises(ValueError, match="seg-tokens"):
        update_page(page, results, 2)


def test_runs_of_different_settings_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_runs(tmp_path)
    with pytest.raises(ValueError, match="steps 100 and 50"):
        read_runs(write_runs(tmp_path, (*ROWS, row("all", 2, steps=50))))


def test_charts_are_written_for_every_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    charts = draw_tables(Results(ROWS), tmp_path)
    assert [chart.name for chart in charts] == ["cotraining.png", "seg-tokens.png", "data-scale.png"]
    assert all(Image.open(chart).size[0] > 500 for chart in charts)
