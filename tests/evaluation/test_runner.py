import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.fake_answers import STAMP, FakePredictor, tell_truth
from support.small_benchmark import colors, squares

from sa2va.evaluation.benchmark import Benchmark
from sa2va.evaluation.runner import JOURNAL, evaluate, run
from sa2va.evaluation.stamp import Run


class Dying(FakePredictor):
    """Answer a few batches, then be interrupted."""

    lives = 2

    def predict_batch(self, requests: Sequence[Any], options: Any = None, forced: bool = False) -> list[Any]:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        return super().predict_batch(requests, options, forced)


@pytest.mark.parametrize("build", [squares, colors])
def test_no_score_depends_on_the_batch(build: Callable[..., Benchmark]) -> None:
    benchmark = build("dev", 3, 7)
    predictor = FakePredictor(benchmark, tell_truth)
    runs = [run(benchmark, predictor, batch_size=size) for size in (1, 3, 7, 32)]
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len(runs[0]) == 7


def test_an_interrupted_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    benchmarks = [squares("dev", 3, 6)]
    start = partial(evaluate, benchmarks=benchmarks, stamp=STAMP)
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


OTHERS = {
    "model_hash": "other",
    "adapter_hash": "other",
    "sam_hash": "other",
    "dtype": "bfloat16",
    "quantize": "int8",
    "device": "cuda",
    "compile": True,
    "libraries": {"torch": "2.1"},
    "code_hash": "2-4567",
    "split": "report",
}
SHOWN_ONLY = {"model": "a/copy", "adapter": "a/copy", "sam": "a/copy", "num_items": 2, "seed": 4}


def test_another_run_in_the_same_folder_starts_anew(tmp_path: Path) -> None:
    """A folder stores the scores of every run separately, and each run finds its own."""
    assert OTHERS.keys() | SHOWN_ONLY.keys() == {field.name for field in fields(Run)}
    benchmark = squares("dev", 3, 2)
    runs = [STAMP, *(replace(STAMP, **{name: value}) for name, value in OTHERS.items())]
    for expected in ([2], []):
        for stamp in runs:
            predictor = FakePredictor(benchmark, tell_truth)
            evaluate(predictor, [benchmark], stamp, folder=tmp_path)
            assert predictor.asked == expected, stamp
    for name, value in SHOWN_ONLY.items():
        predictor = FakePredictor(benchmark, tell_truth)
        evaluate(predictor, [benchmark], replace(STAMP, **{name: value}), folder=tmp_path)
        assert predictor.asked == [], name
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == 2 * len(runs)


def test_options_of_a_benchmark_decide_the_key() -> None:
    benchmark = squares("dev", 3, 2)
    others = [
        replace(benchmark, name="other"),
        replace(benchmark, seed=4),
        replace(benchmark, forced=True),
        replace(benchmark, options=replace(benchmark.options, mode="consistent")),
        replace(benchmark, options=replace(benchmark.options, num_keyframes=2)),
    ]
    keys = [STAMP.key(one, 0) for one in (benchmark, *others)] + [STAMP.key(benchmark, 1)]
    assert len(set(keys)) == 7
    assert STAMP.key(replace(benchmark, title="Other"), 0) == keys[0]


def test_the_report_is_written_with_its_stamp(tmp_path: Path) -> None:
    benchmarks = [colors("dev", 3, 4)]
    report = evaluate(FakePredictor(benchmarks[0], tell_truth), benchmarks, STAMP, folder=tmp_path, progress=True)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    stamp = written["environment"]
    assert stamp.items() >= {"seed": 3, "num_items": 4, "model": "fake", "model_hash": "0123"}.items()
    assert {"torch", "python", "date", "seconds", "code_hash"} <= set(stamp)
    assert "exact match" in (tmp_path / "report.txt").read_text()
    assert not list(tmp_path.glob(".*"))
