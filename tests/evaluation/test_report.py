import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fake_answers import STAMP

from sa2va.checkpoints.find import find_model
from sa2va.evaluation.benchmark import Bar, Figure, measure
from sa2va.evaluation.report import Report, Section, show
from sa2va.evaluation.stamp import Run, hash_files, list_model_files


def report(*values: float, run: Run = STAMP) -> Report:
    shown = [measure(f"figure {v}", np.full(4, v), chance=0.125, baseline="a guess", bar=Bar(0.5)) for v in values]
    bare = measure("no bar", np.zeros(0))
    return Report(
        sections=(Section(name="x", title="Things", figures=(*shown, bare)),),
        run=run,
        environment={"cores": 2},
    )


def test_table_has_every_column() -> None:
    text = report(0.75, 0.25).to_text()
    for piece in ("Things", "0.750 .. 0.750", "0.125", ">= 0.50", "reached", "missed", "no bar", "a guess"):
        assert piece in text


def test_markdown_is_a_row_a_figure_under_the_description_of_the_run() -> None:
    head, _, *rows = report(0.75).to_markdown().splitlines()
    assert head == STAMP.in_words()
    assert rows[0] == "| figure | value | 95 % interval | items | chance | bar | verdict |"
    assert rows[2] == "| Things: figure 0.75 | 0.750 | 0.750 .. 0.750 | 4 | 0.125 | >= 0.50 | reached |"
    assert rows[3] == "| Things: no bar | - | - | 0 | - |  |  |"


def test_published_values_stand_beside_those_of_the_same_model() -> None:
    figures = (measure("cIoU", np.array([0.8, 0.9])), measure("Pr@0.5", np.array([1.0])))
    section = Section(name="refcoco/val", title="RefCOCO val", figures=figures)
    shown = Report(sections=(section,), run=replace(STAMP, model="ByteDance/Sa2VA-4B"), environment={})
    _, _, *rows = shown.to_markdown().splitlines()
    assert rows[0] == "| figure | value | 95 % interval | items | chance | published |"
    assert rows[2] == "| RefCOCO val: cIoU | 0.850 | 0.800 .. 0.900 | 2 | - | 0.824 |"
    assert rows[3] == "| RefCOCO val: Pr@0.5 | 1.000 | - | 1 | - | - |"  # one picture has no interval
    assert shown.to_dict()["published"]["refcoco/val"]["cIoU"]["value"] == 0.824
    assert "published: Sa2VA-4B, model cards" in " ".join(shown.to_text().split())
    other = replace(shown, run=replace(shown.run, adapter="mine", adapter_hash="1"))  # another model
    assert (other.published, "published" in other.to_text()) == ({}, False)


def test_a_figure_that_could_not_be_computed_is_missing_and_says_why_below() -> None:
    none = [Figure(name=name, value=None, low=None, high=None, num_items=0, note="needs Java") for name in "AB"]
    shown = replace(report(), sections=(Section(name="x", title="Things", figures=tuple(none)),))
    assert "| Things: A | missing | - | 0 | - |" in shown.to_markdown()
    assert shown.notes == ["missing: needs Java"] and "needs Java" in shown.to_text()
    assert shown.to_dict()["benchmarks"]["x"]["A"]["note"] == "needs Java"


@pytest.mark.parametrize(("values", "passed"), [((0.75, 0.5), True), ((0.75, 0.25), False), ((), True)])
def test_passed_means_every_bar(values: tuple[float, ...], passed: bool) -> None:
    assert report(*values).passed is passed


def test_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(0.75), as_json=True)
    said = json.loads(capsys.readouterr().out)
    first, bare = said["benchmarks"]["x"].values()
    assert (first["value"], first["bar"], first["passed"], first["num_items"]) == (0.75, ">= 0.50", True, 4)
    assert (bare["value"], bare["bar"], bare["passed"]) == (None, None, None)
    assert said["passed"] is True


def test_table_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(0.75))
    assert "Things" in capsys.readouterr().out


def test_the_head_says_in_words_what_was_measured() -> None:
    text = " ".join(report(0.5).to_text().split())
    assert "fake (0123), float32 on cpu; code 1-4567, torch 2.0" in text
    run = replace(
        STAMP, adapter="a[b]", adapter_hash="89", sam="facebook/sam", sam_hash="ab", quantize="int4", dtype="bfloat16"
    )
    text = " ".join(report(0.5, run=run).to_text().split())
    assert "with adapter a[b] (89) and original SAM 2 facebook/sam (ab), bfloat16, quantized to int4 on cpu;" in text
    said = report(0.5, run=run).to_dict()
    assert Run(**said["run"]) == run and said["environment"]["cores"] == 2


def test_what_is_not_finite_is_null_in_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = report(float("nan"))
    show(bad, as_json=True)
    bad.save(tmp_path)
    printed, written = capsys.readouterr().out, (tmp_path / "report.json").read_text()
    assert json.loads(printed, parse_constant=pytest.fail) == json.loads(written, parse_constant=pytest.fail)
    figure = json.loads(written)["benchmarks"]["x"]["figure nan"]
    assert (figure["value"], figure["low"], figure["high"], figure["passed"]) == (None, None, None, False)


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(0.75).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ValueError, match=r"report.json: cannot be written \(no space left\)"):
        report(0.25).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_card_of_the_embedded_model_quotes_its_report() -> None:
    folder = find_model("tiny")
    said = json.loads((folder / "report.json").read_text())
    assert said["environment"]["split"] == "report"
    assert said["environment"]["num_items"] >= 1000
    assert said["run"]["model_hash"] == hash_files(folder, list_model_files(folder))
    card = (folder / "README.md").read_text()
    quoted = [line.split(" | ")[:4] for line in card.splitlines() if re.match(r"\| \w.*: .* \| \d", line)]
    figures = [
        (said["titles"][name], {"name": figure} | values)
        for name, figures in said["benchmarks"].items()
        for figure, values in figures.items()
    ]
    assert quoted == [
        [
            f"| {title}: {one['name']}",
            f"{one['value']:.3f}",
            f"{one['low']:.3f} .. {one['high']:.3f}",
            str(one["num_items"]),
        ]
        for title, one in figures
    ]
