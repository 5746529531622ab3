"""Check that gaze weights with wrong sizes are refused in one line, before any memory is taken."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sa2va.apps import cli
from sa2va.checkpoints.find import EMBEDDED
from sa2va.gaze.predictor import load_decoder


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_layers", 10**7, "num_layers is 10000000; expected a whole number from 1 to 64"),
        ("num_layers", -1, "num_layers is -1; expected"),
        ("num_layers", "3", "num_layers is '3'; expected"),
        ("num_layers", 5, "tensor blocks.3"),
        ("num_layers", True, "num_layers is True; expected"),
        ("width", 10**9, "width is 1000000000; expected"),
        ("width", 128, "has shape"),
        ("width", 96.0, "width is 96.0; expected"),
        ("num_heads", 5, "num_heads is 5; expected a divisor of width, 96"),
        ("num_heads", 0, "num_heads is 0; expected"),
        ("place_width", 10**9, "place_width is 1000000000; expected"),
        ("num_aims", 10**9, "num_aims is 1000000000; expected"),
        ("cell", 10**9, "cell is 1000000000; expected"),
        ("cell", 7, "cells of 7 px do not tile"),
        ("num_observers", 10**9, "num_observers is 1000000000; expected"),
        ("num_components", 10**9, "num_components is 1000000000; expected"),
        ("state_width", 10**9, "state_width is 1000000000; expected"),
        ("state_width", -5, "state_width is -5; expected"),
        ("image_channels", 64, "has shape"),
        ("dropout", 7, "dropout is 7; expected"),
        ("surprise", 1, "describes no gaze decoder"),
    ],
)
def test_a_wrong_size_is_one_line(
    name: str, value: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("gaze.json", "gaze.safetensors"):
        shutil.copy(EMBEDDED["tiny"] / file, tmp_path)
    record = json.loads((tmp_path / "gaze.json").read_text())
    record["decoder"][name] = value
    (tmp_path / "gaze.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message) as error:
        load_decoder(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":' * 100_000, "is nested more than 64 deep"),
        ('{"decoder": {"width": NaN}}', "NaN is not a number"),
        ('{"decoder": []}', "describes no gaze decoder"),
        ("{}", "describes no gaze decoder"),
        ("[]", "holds a list"),
        ('{"decoder": {}, "card": "' + "x" * 2**21 + '"}', "more than the 1048576 allowed"),
    ],
    ids=["deep", "nan", "list", "empty", "no object", "large"],
)
def test_a_damaged_file_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(EMBEDDED["tiny"], tmp_path / "model")
    (tmp_path / "model" / "gaze.json").write_text(text)
    picture = str(Path(__file__).parent / "missing.png")
    with pytest.raises(ValueError, match=message):
        load_decoder(tmp_path / "model")
    assert cli.main(["gaze", "predict", picture, "the cup", "--model", str(tmp_path / "model")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
