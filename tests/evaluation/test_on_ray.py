"""Check that the parts of an evaluation give the report of one process, here and with actors on Ray."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from support.stored_layouts import write_refcoco

from sa2va.apps import cli
from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.on_ray import Job, build_work, evaluate_on_ray
from sa2va.evaluation.runner import begin, evaluate, score_folder
from sa2va.evaluation.stamp import describe_run
from sa2va.inference.loading import load

NUM_PARTS = 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("refcoco", "refcoco+"):
        write_refcoco(tmp_path / "data" / "ref_seg" / name)
    return tmp_path / "data"


def start(folder: Path, data: Path, out: Path) -> Job:
    names = ("refcoco/val", "refcoco+/val")
    benchmarks = [rebuild(name, Selection(split="val", root=data)) for name in names]
    run = describe_run(load(folder), folder)
    return Job(
        load=partial(load, folder), asked=begin(out, benchmarks, run), folder=out, batch_size=1, num_parts=NUM_PARTS
    )


def test_all_parts_give_the_report_of_one_process(folder: Path, data: Path, tmp_path: Path) -> None:
    job = start(folder, data, tmp_path / "parts")
    work = build_work(job)
    assert [work(part) for part in (2, 0, 1)] == [{"part": 2}, {"part": 0}, {"part": 1}]
    score_folder(tmp_path / "parts")
    benchmarks = [rebuild(one.benchmark, one.selection) for one in job.asked]
    evaluate(load(folder), benchmarks, job.asked[0].run, folder=tmp_path / "one", batch_size=1)
    for name in ("report.json", "records.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert len(list((tmp_path / "parts").glob("answers-*.jsonl"))) == NUM_PARTS + 1  # and what was asked


def test_a_worker_with_another_precision_is_refused(folder: Path, data: Path, tmp_path: Path) -> None:
    job = start(folder, data, tmp_path / "out")
    with pytest.raises(ValueError, match="a worker has the model in bfloat16 on cpu, this machine in float32 on cpu"):
        build_work(replace(job, load=partial(load, folder, dtype="bfloat16")))


def test_ray_is_not_reachable(folder: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run = start(folder, data, tmp_path / "out").asked[0].run
    benchmark = rebuild("refcoco/val", Selection(split="val", root=data))
    with pytest.raises(ValueError, match="--ray localhost:1: cannot be reached"):
        evaluate_on_ray(partial(load, folder), [benchmark], run, tmp_path / "out", "localhost:1")


@pytest.mark.slow
def test_actors_on_ray_give_the_report_of_one_process(folder: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = ["eval", str(folder), "-b", "refcoco/val,refcoco+/val", "--data", str(data), "--batch", "1", "-q"]
    assert cli.main([*command, "-o", str(tmp_path / "one")]) == 0
    assert cli.main([*command, "-o", str(tmp_path / "ray"), "--ray", "local", "--workers", "2"]) == 0
    assert (tmp_path / "ray" / "report.json").read_bytes() == (tmp_path / "one" / "report.json").read_bytes()
