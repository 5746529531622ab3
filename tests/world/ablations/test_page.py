"""Write tables, changes and charts of finished runs, from runs.jsonl."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sa2va.apps import cli
from sa2va.data.catalog import FOLDERS
from sa2va.journal import Journal
from sa2va.world.ablations.arms import TABLES
from sa2va.world.ablations.page import describe_runs, find_t, judge_sign, update_page, write_changes, write_table
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
def test_a_sign_holds_only_beyond_the_interval(theirs: float, mean: float, deviation: float, seeds: int) -> None:
    verdict = judge_sign(theirs, Spread(mean, deviation, seeds))
    assert (verdict == "within noise") == (abs(mean) <= find_t(seeds) * deviation / math.sqrt(seeds))
    assert judge_sign(-theirs, Spread(-mean, deviation, seeds)) == verdict
    if verdict != "within noise":
        assert {verdict, judge_sign(-theirs, Spread(mean, deviation, seeds))} == {"same", "opposite"}


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
def test_chance_alone_has_a_sign_once_in_twenty_times(num_seeds: int) -> None:
    rng = np.random.default_rng(num_seeds)
    draws = rng.normal(size=(20_000, num_seeds))
    verdicts = [
        judge_sign(1.0, Spread(*pair, num_seeds)) for pair in zip(draws.mean(1), draws.std(1, ddof=1), strict=True)
    ]
    assert np.mean([one != "within noise" for one in verdicts]) == pytest.approx(0.05, abs=0.006)
    assert find_t(3) == pytest.approx(4.303, abs=1e-3)


def test_a_change_that_the_paper_does_not_have_has_no_sign() -> None:
    rows = [
        row(arm, n, RefCOCO=10.0 * (arm == "all") + n) for arm in ("all", "no_video_segmentation") for n in range(3)
    ]
    lines = write_changes(TABLES["cotraining"], Results(tuple(rows))).splitlines()
    assert "| without video segmentation | RefCOCO | +0.0 | -10.0 ± 0.0 | no change in the paper |" in lines


def test_a_column_that_some_seeds_lack_says_so() -> None:
    lines = write_table(TABLES["cotraining"], Results((*ROWS, row("all", 2, RefCOCO=42.0)))).splitlines()
    assert lines[2] == "| **all data** | 3 | 42.0 ± 2.0 | 30.0 ± 0.0 (2 seeds) |"


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
        read_runs(write_runs(tmp_path / "steps", (*ROWS, row("all", 2, steps=50))))
    with pytest.raises(ValueError, match="two runs of all-1, with other data"):
        read_runs(write_runs(tmp_path / "data", (*ROWS, row("all", 1, RefCOCO=41.0))))
    with pytest.raises(ValueError, match=r"expected arm, batch_size.*got \{'arm': 'all'\}; delete the line"):
        read_runs(write_runs(tmp_path / "damaged", ({"arm": "all"},)))


def test_a_page_of_another_kind_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(write_runs(tmp_path / "runs", ROWS))
    (tmp_path / "folder.md").mkdir()
    for page in (".", str(tmp_path / "page"), str(tmp_path / "folder.md")):
        assert cli.main(["ablate", "page", runs, page]) == 2
        assert "expected the name of a page" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_missing_data_of_any_arm_is_said_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in set(FOLDERS.values()) - {FOLDERS["infinity_mm"]}:
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
    command = ["ablate", "data-scale", "--data", str(tmp_path / "data"), "-o", str(tmp_path / "out"), "-q"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert FOLDERS["infinity_mm"] in error and FOLDERS["mevis"] not in error
    assert cli.main([*command, "--engine", str(tmp_path / "absent")]) == 2
    assert str(tmp_path / "absent") in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_charts_are_written_for_every_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    charts = draw_tables(Results(ROWS), tmp_path)
    assert [chart.name for chart in charts] == ["cotraining.png", "seg-tokens.png", "data-scale.png"]
    assert all(Image.open(chart).size[0] > 500 for chart in charts)


def test_runs_of_several_revisions_are_told() -> None:
    told = [
        describe_runs(Results((row("all", 0), {**row("all", 1), "commit": one})), 2) for one in ("abcdef0123456", "b")
    ]
    assert ["several revisions" in text for text in told] == [False, True]
