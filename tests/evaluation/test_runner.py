import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_answers import FakePredictor, tell_truth

from sa2va.data.world.splits import Split
from sa2va.evaluation.catalog import build_benchmarks
from sa2va.evaluation.runner import JOURNAL, evaluate, hash_folder, run

NAMES = ["world/absent", "world/conversation"]


class Dying(FakePredictor):
    """Answer a few batches, then be interrupted."""

    lives = 2

    def predict_batch(self, requests: Sequence[Any], options: Any = None, forced: bool = False) -> list[Any]:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        return super().predict_batch(requests, options, forced)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_no_score_depends_on_the_batch(name: str) -> None:
    (benchmark,) = build_benchmarks([name], split=Split("test", 3), num_items=7)
    predictor = FakePredictor(benchmark, tell_truth)
    runs = [run(benchmark, predictor, batch_size=size) for size in (1, 3, 7, 32)]
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len(runs[0]) == 7


def test_an_interrupted_evaluation_goes_on_where_it_was(tmp_path: Path, model_folder: Path) -> None:
    benchmarks = build_benchmarks(["world/absent"], split=Split("test", 3), num_items=6)
    start = partial(evaluate, benchmarks=benchmarks, seed=3, model="fake", model_folder=model_folder)
    whole = start(FakePredictor(benchmarks[0], tell_truth), batch_size=2)
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        start(Dying(benchmarks[0], tell_truth), folder=folder, batch_size=2)
    assert not (folder / "report.json").exists()
    fresh = FakePredictor(benchmarks[0], tell_truth)
    resumed = start(fresh, folder=folder, batch_size=2)
    assert fresh.asked == [2]
    assert [section.figures for section in resumed.sections] == [section.figures for section in whole.sections]
    again = FakePredictor(benchmarks[0], tell_truth)
    start(again, folder=folder)
    assert again.asked == []


def test_other_weights_or_another_seed_start_anew(tmp_path: Path, model_folder: Path) -> None:
    folder = tmp_path / "out"
    for seed, weights, expected in (
        (3, b"weights", [4]),
        (4, b"weights", [4]),
        (3, b"others", [4]),
        (3, b"others", []),
    ):
        (model_folder / "model.safetensors").write_bytes(weights)
        benchmarks = build_benchmarks(["world/absent"], split=Split("test", seed), num_items=4)
        predictor = FakePredictor(benchmarks[0], tell_truth)
        evaluate(predictor, benchmarks, folder=folder, seed=seed, model="fake", model_folder=model_folder)
        assert predictor.asked == expected
    assert (folder / JOURNAL).exists()


def test_the_report_is_written_with_its_stamp(tmp_path: Path, model_folder: Path) -> None:
    benchmarks = build_benchmarks(["world/conversation"], split=Split("test", 3), num_items=4)
    predictor = FakePredictor(benchmarks[0], tell_truth)
    report = evaluate(
        predictor, benchmarks, seed=3, model="fake", model_folder=model_folder, folder=tmp_path, progress=True
    )
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    stamp = written["environment"]
    assert (stamp["seed"], stamp["items"], stamp["model"]) == (3, 4, "fake")
    assert stamp["model_hash"] == hash_folder(model_folder)
    assert {"torch", "transformers", "numpy", "python", "date", "seconds", "code_hash"} <= set(stamp)
    assert "exact match" in (tmp_path / "report.txt").read_text()
    assert not list(tmp_path.glob(".*"))


def test_hash_follows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = hash_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = hash_folder(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, second, hash_folder(tmp_path)}) == 3


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none"):
        hash_folder(tmp_path / "nothing")
