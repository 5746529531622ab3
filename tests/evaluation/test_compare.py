"""Check comparisons of two evaluations: what is paired, what is left out, and what is refused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_answers import STAMP, FakePredictor, Reply, fake, tell_truth

from sa2va.evaluation import catalog
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Record, Selection, ask_first
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.compare import compare, holm, is_named
from sa2va.evaluation.runner import evaluate
from sa2va.inference.requests import Request
from sa2va.types import Sample, Turn


@pytest.fixture(autouse=True)
def listed(small_benchmarks: None) -> None:
    """Folders of answers find their benchmarks by name."""


def answer(folder: Path, reply: Reply = tell_truth, *, names: Sequence[str] = ("squares",), **chosen: Any) -> Path:
    """Evaluate a model that answers each question by a function of the truth."""
    selection = Selection(**{"split": "dev", "seed": 3, "limit": 6} | chosen)
    for name in names:
        benchmark = rebuild(name, selection)
        evaluate(FakePredictor(benchmark, reply), [benchmark], STAMP, folder=folder)
    return folder


def half(sample: Sample, turn: Turn, forced: bool) -> Any:
    """Answer with the upper half of the square."""
    masks = sample.masks.copy()
    rows = np.flatnonzero(masks.any((0, 1, 3)))
    masks[:, :, rows[len(rows) // 2] :] = False
    return fake(turn.answer, masks)


def test_a_model_equals_itself(tmp_path: Path) -> None:
    found = compare(answer(tmp_path / "a"), answer(tmp_path / "b"))
    (squares,) = found.benchmarks
    assert (squares.name, squares.num_items, squares.only_first, squares.only_second) == ("squares", 6, (), ())
    assert [tuple(one.difference or ()) for one in squares.changes] == [(0.0, 0.0, 0.0, 1.0)] * 2
    assert not list(found.lines())


def test_a_difference_is_the_second_minus_the_first(tmp_path: Path) -> None:
    better, worse = answer(tmp_path / "a"), answer(tmp_path / "b", half)
    (change, _) = compare(better, worse).benchmarks[0].changes
    assert change.figure == "cIoU, squares" and change.difference is not None
    assert change.first == 1.0 and change.second is not None
    assert change.difference.value == pytest.approx(change.second - 1)
    assert change.difference.high < -0.3 and change.difference.p == 2**-5  # six pictures
    back = compare(worse, better).benchmarks[0].changes[0].difference
    assert back is not None and back.value == -change.difference.value


def test_only_common_items_and_benchmarks_count(tmp_path: Path) -> None:
    few, many = answer(tmp_path / "a", limit=4), answer(tmp_path / "b", half, names=["squares", "colors"], limit=9)
    found = compare(few, many)
    assert found.only_second == ("colors",)
    assert found.benchmarks[0].num_items == 4
    assert found.benchmarks[0].only_second == ("4", "5", "6", "7", "8")
    assert list(found.lines()) == [
        "only the second has colors",
        "squares: 5 items only of the second are left out: 4, 5, 6, 7, 8",
    ]
    whole = compare(few, answer(tmp_path / "c", half, limit=4)).benchmarks[0].changes
    assert found.benchmarks[0].changes == whole


def test_parts_follow_facts_of_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = catalog.BENCHMARKS["squares"]

    def sized(selection: Selection) -> Benchmark[Sample]:
        benchmark = squares(selection)

        def score(sample: Sample, answers: Sequence[Answer]) -> Record:
            large = sample.masks.any((0, 1, 2)).argmax() % 2 == 0  # by its place, which differs
            return benchmark.score(sample, answers) | {"facts": {"size": "large" if large else "small"}}

        return replace(benchmark, score=score)

    monkeypatch.setitem(catalog.BENCHMARKS, "squares", sized)
    found = compare(answer(tmp_path / "a", limit=12), answer(tmp_path / "b", half, limit=12))
    parts = found.benchmarks[0].parts
    assert [(one.fact, one.value, one.change.figure) for one in parts] == [
        ("size", "small", "cIoU, squares"),
        ("size", "large", "cIoU, squares"),
    ]
    assert sum(one.num_items for one in parts) == 12
    assert all(one.change.difference is not None and one.change.difference.value < 0 for one in parts)


def test_other_questions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = answer(tmp_path / "a")
    squares = catalog.BENCHMARKS["squares"]

    def ask(sample: Sample) -> list[Request]:
        return [replace(one, prompt="Where is it?") for one in ask_first(sample)]

    monkeypatch.setitem(catalog.BENCHMARKS, "squares", lambda selection: replace(squares(selection), ask=ask))
    second = answer(tmp_path / "b")
    with pytest.raises(ValueError, match=r"^squares: prompts differ, item 0 was asked .* in .*b$"):
        compare(first, second)


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    first, second = answer(tmp_path / "a"), answer(tmp_path / "b")
    report = json.loads((second / "report.json").read_text())
    (second / "report.json").write_text(json.dumps(report | {"protocols": {"squares": "first mask only"}}))
    with pytest.raises(ValueError, match=r"^squares: protocols differ, .* has '' and .* has 'first mask only'$"):
        compare(first, second)


def test_items_of_another_seed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^squares: items differ, .* seed 3 and .* seed 4$"):
        compare(answer(tmp_path / "a"), answer(tmp_path / "b", seed=4))


def test_folders_without_scores_or_common_benchmarks(tmp_path: Path) -> None:
    first, second = answer(tmp_path / "a"), answer(tmp_path / "b", names=["colors"])
    with pytest.raises(ValueError, match=r"holds no answers of sa2va eval"):
        compare(first, tmp_path)
    with pytest.raises(ValueError, match=r"has squares, .* has colors: no benchmark is in both"):
        compare(first, second)
    with pytest.raises(ValueError, match=r"benchmark 'colors': not in both"):
        compare(first, second, names=["colors"])
    for name in ("records.jsonl", "report.json"):
        (answer(tmp_path / name) / name).unlink()
        with pytest.raises(ValueError, match=r"not scored; run sa2va score"):
            compare(tmp_path / name, first)


@pytest.mark.parametrize("line", ["{", "[]", '{"benchmark": "squares"}'])
def test_a_damaged_record_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    first = answer(tmp_path / "a b")
    with (first / "records.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"records.jsonl:7: is no record of an item; run sa2va score '.*a b'$"):
        compare(first, first)


def test_figures_without_a_test_share_a_line(tmp_path: Path) -> None:
    found = compare(answer(tmp_path / "a", limit=1), answer(tmp_path / "b", limit=1))
    (line,) = found.lines()
    assert line.startswith("squares, no test: a single picture or clip tells nothing about others: cIoU, squares; ")


def test_a_benchmark_is_named_alone_or_by_its_split() -> None:
    named = [one for one in ("refcoco/val", "refcoco/testA", "refcoco+/val", "squares") if is_named(one, ["refcoco"])]
    assert named == ["refcoco/val", "refcoco/testA"]
    assert is_named("refcoco/val", ["gcg", "refcoco/val"]) and is_named("squares", ["squares"])
    assert not is_named("refcoco/val", ["refcoco/testA"])


def test_the_table_and_json_hold_the_same_numbers(tmp_path: Path) -> None:
    found = compare(
        answer(tmp_path / "a", names=["squares", "colors"]), answer(tmp_path / "b", half, names=["squares", "colors"])
    )
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(values["benchmarks"]) == ["squares", "colors"]
    change = values["benchmarks"]["squares"]["figures"]["cIoU, squares"]
    cells = [list(column.cells) for column in found.table().columns]
    assert cells[0][:2] == ["[bold]squares[/bold]", "  cIoU, squares"]
    assert cells[3][1] == f"{change['difference']['value']:+.3f}"
    assert set(values["corrected_p"]) == {"squares", "colors"}


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
