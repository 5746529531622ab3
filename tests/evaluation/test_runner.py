"""Check both passes of an evaluation: what is asked again, what shards and kills leave, and what a report has."""

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_answers import STAMP, FakePredictor, fake, tell_truth

from sa2va.evaluation import catalog
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Selection, ask_first
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.report import Report
from sa2va.evaluation.runner import evaluate, require_own_folder, run, score_folder
from sa2va.evaluation.stamp import Run
from sa2va.evaluation.store import AnswerStore, Asked, Shard
from sa2va.inference.requests import Request
from sa2va.types import Sample


class Dying(FakePredictor):
    """Answer a few batches, then be interrupted."""

    lives = 2

    def predict_batch(self, requests: Sequence[Any], options: Any = None, forced: bool = False) -> list[Any]:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        return super().predict_batch(requests, options, forced)


SIX = Selection(split="dev", seed=3, limit=6)


@pytest.fixture(autouse=True)
def listed(small_benchmarks: None) -> None:
    """Folders of answers find their benchmarks by name."""


def build(name: str = "squares", selection: Selection = SIX) -> Benchmark[Any]:
    return rebuild(name, selection)


@pytest.mark.parametrize("name", ["squares", "colors"])
def test_no_score_depends_on_the_batch(name: str) -> None:
    benchmark = build(name, replace(SIX, limit=7))
    predictor = FakePredictor(benchmark, tell_truth)
    runs = [run(benchmark, predictor, batch_size=size) for size in (1, 3, 7, 32)]
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len(runs[0]) == 7


def test_an_interrupted_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    benchmark = build()
    start = partial(evaluate, benchmarks=[benchmark], run=STAMP)
    whole = start(FakePredictor(benchmark, tell_truth), batch_size=2)
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        start(Dying(benchmark, tell_truth), folder=folder, batch_size=2)
    assert not (folder / "report.json").exists()
    fresh = FakePredictor(benchmark, tell_truth)
    resumed = start(fresh, folder=folder, batch_size=2)
    assert fresh.asked == [2]
    assert resumed.sections == whole.sections
    again = FakePredictor(benchmark, tell_truth)
    start(again, folder=folder)
    assert again.asked == []


def test_a_batch_of_which_an_answer_is_missing_is_asked_as_a_whole(tmp_path: Path) -> None:
    benchmark = build()
    evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path, batch_size=3)
    path = tmp_path / "answers-1-of-1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])  # as a killed process could leave it
    fresh = FakePredictor(benchmark, tell_truth)
    evaluate(fresh, [benchmark], STAMP, folder=tmp_path, batch_size=3)
    assert fresh.asked == [3]
    assert len(path.read_bytes().splitlines()) == len(lines) == 7


def test_shards_merge_into_the_same_report(tmp_path: Path) -> None:
    benchmark = build()
    predictor = FakePredictor(benchmark, tell_truth)
    whole = evaluate(predictor, [benchmark], STAMP, folder=tmp_path / "whole", batch_size=2)
    for index in (2, 0, 1):
        part = evaluate(predictor, [benchmark], STAMP, folder=tmp_path / "parts", shard=Shard(index, 3), batch_size=2)
        if index != 1:
            assert not part.sections and "of 6 items are answered" in part.unfinished[0]
    assert part.sections == whole.sections and not part.unfinished
    reports = [(tmp_path / name / "report.json").read_bytes() for name in ("whole", "parts")]
    assert reports[0] == reports[1]
    assert sorted(path.name for path in (tmp_path / "parts").glob("answers-*")) == [
        f"answers-{number}-of-3.jsonl" for number in (1, 2, 3)
    ]


def test_a_folder_is_scored_again_without_a_model(tmp_path: Path) -> None:
    benchmark = build()
    evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("report.json", "report.txt", "report.md", "records.jsonl"):
        (tmp_path / name).unlink()
    report = score_folder(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert report.sections[0].figures[0].value == 1.0
    with pytest.raises(ValueError, match="holds no answers of sa2va eval"):
        score_folder(tmp_path / "nothing")


def test_answers_to_other_questions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = build()
    evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path)

    def ask_otherwise(sample: Sample) -> list[Request]:
        return [replace(request, prompt="Where is it?") for request in ask_first(sample)]

    changed = replace(benchmark, ask=ask_otherwise)
    monkeypatch.setitem(catalog.BENCHMARKS, "squares", lambda selection: changed)
    with pytest.raises(ValueError, match=r"squares, item 0: was asked \[.*and would now be asked \['Where is it\?'\]"):
        score_folder(tmp_path)


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
}
SHOWN_ONLY = {"model": "a/copy", "adapter": "a/copy", "sam": "a/copy"}


def test_what_decides_an_answer_decides_its_key() -> None:
    assert OTHERS.keys() | SHOWN_ONLY.keys() == {field.name for field in fields(Run)}
    benchmark = build()
    options = benchmark.options
    others = [
        replace(benchmark, name="other"),
        replace(benchmark, seed=4),
        replace(benchmark, split="report"),
        replace(benchmark, forced=True),
        replace(benchmark, selection=replace(SIX, prompts="released")),
        replace(benchmark, options=replace(options, mode="consistent")),
        replace(benchmark, options=replace(options, num_keyframes=2)),
    ]
    keys = [STAMP.key(one, "0") for one in (benchmark, *others)] + [STAMP.key(benchmark, "1")]
    keys += [replace(STAMP, **{name: value}).key(benchmark, "0") for name, value in OTHERS.items()]
    assert len(set(keys)) == len(keys) == 9 + len(OTHERS)
    for name, value in SHOWN_ONLY.items():
        assert replace(STAMP, **{name: value}).key(benchmark, "0") == keys[0]
    assert STAMP.key(replace(benchmark, title="Other", protocol="scored in another way"), "0") == keys[0]
    assert STAMP.key(build(selection=replace(SIX, limit=2)), "0") == keys[0]


def test_a_folder_holds_the_answers_of_one_model(tmp_path: Path) -> None:
    benchmark = build()
    predictor = FakePredictor(benchmark, tell_truth)
    evaluate(predictor, [benchmark], STAMP, folder=tmp_path)
    other = replace(STAMP, model="another", model_hash="4567")
    with pytest.raises(
        ValueError, match=r"answers of another run \(model fake, now another; model_hash 0123, now 4567\); choose"
    ):
        evaluate(predictor, [benchmark], other, folder=tmp_path)


def test_the_report_has_every_benchmark_of_the_folder(tmp_path: Path) -> None:
    for name in ("squares", "colors"):
        benchmark = build(name)
        report = evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path)
    assert [section.name for section in report.sections] == ["squares", "colors"]
    larger = build("squares", replace(SIX, limit=8))
    predictor = FakePredictor(larger, tell_truth)
    report = evaluate(predictor, [larger], STAMP, folder=tmp_path)
    assert predictor.asked == [8]  # a batch whose items are not all there is asked again
    assert report.sections[0].figures[0].num_items == 8


def test_the_report_is_of_the_last_selection(tmp_path: Path) -> None:
    def num_items(selection: Selection, shard: Shard | None = None) -> int:
        benchmark = build("squares", selection)
        predictor = FakePredictor(benchmark, tell_truth)
        report = evaluate(predictor, [benchmark], STAMP, folder=tmp_path, shard=shard, batch_size=2)
        return report.sections[0].figures[0].num_items if report.sections else 0

    few = replace(SIX, limit=4)
    assert [num_items(few, Shard(index, 2)) for index in (0, 1)] == [0, 4]
    assert [num_items(one) for one in (SIX, few, SIX)] == [6, 4, 6]
    assert [num_items(few, Shard(index, 2)) for index in (0, 1)] == [4, 4]
    assert score_folder(tmp_path).sections[0].figures[0].num_items == 4


def test_a_folder_holds_answers_about_one_data(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("data", "other", "moved")]
    for root in roots[:2]:
        root.mkdir()
    asked = [Asked(run=STAMP, benchmark="squares", selection=Selection(split="val", root=root)) for root in roots]
    with AnswerStore(tmp_path / "out") as store:
        store.begin(asked[0])
        with pytest.raises(ValueError, match=r"holds answers of squares about .*data, now .*other; choose another"):
            store.begin(asked[1])
        roots[0].rename(roots[2])
        store.begin(asked[2])
        assert [one.selection.root for one in store.asked()] == [roots[2]]


@pytest.mark.parametrize("name", ["report.html", "records.jsonl", "submission"])
def test_files_of_the_user_are_not_replaced(tmp_path: Path, name: str) -> None:
    benchmark = build()
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name}: was not written by an evaluation"):
        evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_shards_that_end_together_leave_the_whole_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = build()
    predictor = FakePredictor(benchmark, tell_truth)
    start = partial(evaluate, predictor, [benchmark], STAMP, folder=tmp_path, batch_size=2)
    write = Report.save

    def save_late(report: Report, folder: Path) -> None:
        monkeypatch.setattr(Report, "save", write)
        start(shard=Shard(1, 2))  # ends between the scores of the first and its report
        report.save(folder)

    monkeypatch.setattr(Report, "save", save_late)
    assert not start(shard=Shard(0, 2)).unfinished
    assert not json.loads((tmp_path / "report.json").read_text())["unfinished"]


def test_a_server_gets_an_archive_of_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(folder: Path, answered: Any) -> None:
        for number, (_, answers) in enumerate(answered):
            (folder / "masks").mkdir(exist_ok=True)
            (folder / "masks" / f"{number}.txt").write_text(answers[0].text)

    served = replace(build(), submit=submit, scored_elsewhere=True)
    monkeypatch.setitem(catalog.BENCHMARKS, "squares", lambda selection: served)
    written = []
    for name in ("one", "two"):
        report = evaluate(FakePredictor(served, tell_truth), [build()], STAMP, folder=tmp_path / name)
        assert report.sections[0].scored_elsewhere and "submission/squares.zip" in report.to_text()
        written.append((tmp_path / name / "submission" / "squares.zip").read_bytes())
    assert written[0] == written[1]
    with zipfile.ZipFile(tmp_path / "one" / "submission" / "squares.zip") as archive:
        assert archive.namelist() == [f"masks/{number}.txt" for number in range(6)]


def test_items_need_names_of_their_own_and_one_way_to_be_asked() -> None:
    with pytest.raises(ValueError, match="expected at least one, with different ids"):
        replace(build(), ids=["1", "1"])
    with pytest.raises(ValueError, match="expected exactly one of ask, play"):
        replace(build(), ask=None)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(ValueError, match="expected I/N with I from 1 to N"):
        Shard.parse(text)


def test_processes_of_torchrun_take_the_shard_of_their_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shard.parse(None) == Shard(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Shard.parse(None) == Shard(2, 4) == Shard.parse("3/4")


def test_a_larger_limit_adds_to_the_same_choice() -> None:
    few, more = (Selection(split="val", seed=7, limit=limit).choose(50) for limit in (5, 20))
    assert len(few) == 5 and set(few) < set(more) and more == sorted(more) and max(more) < 50
    assert Selection(split="val", limit=3).choose(50) == [0, 1, 2]
    assert Selection(split="val").choose(2) == Selection(split="val", limit=9, seed=1).choose(2) == [0, 1]


def test_an_answer_survives_json() -> None:
    masks = np.random.default_rng(0).random((2, 3, 8, 9)) > 0.5
    answer = Answer.of(fake("It is [SEG] [SEG].", masks, presence=0.25, score=[0.125, 0.75]), 0.5)
    again = Answer.from_record(json.loads(json.dumps(answer.to_record())))
    assert (again.text, again.size, again.num_frames, again.seconds) == (answer.text, (8, 9), 3, 0.5)
    assert (again.masks == masks).all() and (again.union_at(1) == masks[:, 1].any(0)).all()
    assert again.to_record() == answer.to_record()


def test_the_report_is_written_with_its_stamp(tmp_path: Path) -> None:
    benchmark = build("colors", replace(SIX, limit=4))
    report = evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path, progress=True)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    assert Run(**written["run"]) == STAMP
    assert {"python", "cores", "platform"} <= set(written["environment"])
    assert written["benchmarks"]["colors"]["exact match"]["num_items"] == 4
    assert "exact match" in (tmp_path / "report.txt").read_text()
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [(one["benchmark"], one["item"]) for one in records] == [("colors", str(number)) for number in range(4)]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["report.md", "report.html", "records.jsonl", "submission/revos-valid.zip"])
def test_files_of_others_are_never_replaced(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    benchmark = build()
    with pytest.raises(ValueError, match="was not written by an evaluation"):
        evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [own] and own.read_text() == "mine"
    own.rename(tmp_path / "other.txt")
    if own.parent != tmp_path:
        own.parent.rmdir()
    require_own_folder(tmp_path)


@pytest.mark.parametrize(("old", "new"), [('"answers": [', '"none": ['), ('"size": [', '"size": [1, ')])
def test_damaged_answers_are_named_by_item_and_line(tmp_path: Path, old: str, new: str) -> None:
    benchmark = build()
    evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path)
    file = tmp_path / "answers-1-of-1.jsonl"
    head, first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(head + first.replace(old, new) + "".join(rest))
    key = json.loads(first)["key"]
    with pytest.raises(ValueError, match=rf"squares, item 0, are damaged .*; delete the line with key {key}"):
        score_folder(tmp_path)
    file.write_text(head + re.sub('"counts": ."[^"]*"', '"counts": ["!!"', first) + "".join(rest))
    with pytest.raises(ValueError, match=r"^squares, item 0: RLE: expected .* the text is cut off"):
        score_folder(tmp_path)
    file.write_text(head + "".join(rest))
    assert evaluate(FakePredictor(benchmark, tell_truth), [benchmark], STAMP, folder=tmp_path).sections
