import json

import numpy as np
import pytest

from sa2va.evaluation.benchmark import Bar, measure
from sa2va.evaluation.report import Report, Section, show

STAMP = {"model": "tiny", "model_hash": "0123", "seed": 1, "items": 4}


def report(*values: float) -> Report:
    shown = [measure(f"figure {v}", np.full(4, v), chance=0.125, baseline="a guess", bar=Bar(0.5)) for v in values]
    bare = measure("no bar", np.zeros(0))
    return Report(
        sections=(Section(name="world/x", title="Things", figures=(*shown, bare), seconds=1.0),), environment=STAMP
    )


def test_table_has_every_column() -> None:
    text = report(0.75, 0.25).to_text()
    for piece in ("Things", "0.750 .. 0.750", "0.125", ">= 0.50", "pass", "miss", "no bar", "a guess", "seed 1"):
        assert piece in text


@pytest.mark.parametrize(("values", "passed"), [((0.75, 0.5), True), ((0.75, 0.25), False), ((), True)])
def test_passed_means_every_bar(values: tuple[float, ...], passed: bool) -> None:
    assert report(*values).passed is passed


def test_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(0.75), as_json=True)
    said = json.loads(capsys.readouterr().out)
    (section,) = said["sections"]
    first, bare = section["figures"]
    assert (first["value"], first["bar"], first["passed"], first["num_items"]) == (0.75, ">= 0.50", True, 4)
    assert (bare["value"], bare["bar"], bare["passed"]) == (None, None, None)
    assert said["passed"] is True


def test_table_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(0.75))
    assert "Things" in capsys.readouterr().out
