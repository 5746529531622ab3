"""Check the parsers of command-line options."""

import os
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sa2va
from sa2va.apps import cli
from sa2va.apps.options import (
    Dtype,
    ModelChoice,
    Quantize,
    parse_region,
    parse_regions,
    require_expression,
    require_finite,
    require_text,
)
from sa2va.checkpoints.device import DTYPES
from sa2va.checkpoints.quantize import KINDS
from sa2va.inference.loading import load


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("10,20,30,40", (10.0, 20.0, 30.0, 40.0)),
        ("1.5,2", (1.5, 2.0)),
        (" 1 , 2 , 3 , 4 ", (1.0, 2.0, 3.0, 4.0)),
        ("-5,-5,10,10", (-5.0, -5.0, 10.0, 10.0)),
    ],
)
def test_regions_that_can_be_read(text: str, region: tuple[float, ...]) -> None:
    assert parse_region(text) == region


@pytest.mark.parametrize("text", ["", "a,b", "1", "1,2,3", "1,2,3,4,5", "nan,1", "1,2,inf,4", "5,5,5,9", "9,0,1,5"])
def test_regions_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="--region") as caught:
        parse_region(text)
    assert "\n" not in str(caught.value)


@given(st.lists(st.integers(-9999, 9999), min_size=2, max_size=2))
def test_every_point_survives_the_trip(numbers: list[int]) -> None:
    assert parse_region(",".join(map(str, numbers))) == tuple(map(float, numbers))


def test_no_region_is_none() -> None:
    assert parse_regions(None) is None
    assert parse_regions(["1,2", "1,2,3,4"]) == [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0)]


def test_a_text_is_stripped_and_must_say_something() -> None:
    assert require_text(" the red car ", "EXPRESSION") == "the red car"
    with pytest.raises(ValueError, match="EXPRESSION is empty"):
        require_text(" \n", "EXPRESSION")
    with pytest.raises(ValueError, match="not valid UTF-8"):
        require_text("caf\udce9", "EXPRESSION")


def test_every_number_with_a_point_has_to_be_finite() -> None:
    """No command has an option for a float that lets NaN or infinity through."""
    app = cli.build_app()
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    options = {
        f"{command.name} {name}": hint.__metadata__[0]
        for group in groups
        for command in group.registered_commands
        for name, hint in get_type_hints(command.callback, include_extras=True).items()
        if get_origin(hint) is Annotated and hint.__origin__ is float
    }
    assert "segment threshold" in options
    assert [name for name, option in options.items() if option.callback is not require_finite] == []


@pytest.mark.parametrize("text", ["the red car", " the red car. ", "the red car ?", "the red car...", "the red car? ."])
def test_an_expression_loses_what_ends_a_sentence(text: str) -> None:
    assert require_expression(text) == "the red car"


@pytest.mark.parametrize("text", ["", " ", ".", "?", "...", " ? .", "caf\udce9"])
def test_expressions_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="EXPRESSION") as caught:
        require_expression(text)
    assert "\n" not in str(caught.value)


def test_a_model_is_chosen_as_in_the_library() -> None:
    """The options are the arguments of `sa2va.load`, by the same names and with the same defaults."""
    arguments = {p.name: p.default for p in signature(load).parameters.values()}
    assert arguments.pop("allow_paths") is True  # a command line is nothing but paths
    chosen = {field.name: field.default for field in fields(ModelChoice)}
    assert list(chosen.values()) == list(arguments.values())
    assert list(chosen)[1:] == list(arguments)[1:]  # the first is `name` there and --model here
    assert set(Dtype) == {"auto", *DTYPES} and set(Quantize) == set(KINDS)


@pytest.fixture
def loaded(toy: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(name: str, **options: Any) -> Any:
        calls.append((name, options))
        return toy

    monkeypatch.setitem(vars(sa2va), "load", record)
    return calls


WORDS = ["--model", "lab/m", "--adapter", "a", "--sam", "s", "--device", "cpu", "--revision", "v1"]
FLAGS = ["--dtype", "bfloat16", "--quantize", "int4", "--offline", "--compile", "on"]


def test_every_option_reaches_the_library(loaded: list[Any], tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "white").save(tmp_path / "photo.png")
    for command in (["segment", str(tmp_path / "photo.png"), "a car"], ["caption", str(tmp_path / "photo.png")]):
        assert cli.main([*command, *WORDS, *FLAGS]) == 0
        name, options = loaded.pop()
        assert name == "lab/m" and options == {
            "adapter": "a",
            "sam": "s",
            "device": "cpu",
            "dtype": "bfloat16",
            "quantize": "int4",
            "revision": "v1",
            "offline": True,
            "compile": True,
        }


def test_eval_takes_its_model_as_an_argument(
    loaded: list[Any], small_benchmarks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa2va.evaluation.runner.evaluate", lambda *args, **kwargs: pytest.fail("stop here"))
    with pytest.raises(pytest.fail.Exception, match="stop here"):
        cli.main(["eval", "tiny", "--benchmarks", "squares", "--dtype", "float32"])
    assert loaded[0][0] == "tiny" and loaded[0][1]["dtype"] == "float32"


def test_quiet_also_silences_the_hub(loaded: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30), "white").save(tmp_path / "photo.png")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    assert cli.main(["caption", str(tmp_path / "photo.png")]) == 0
    assert "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
    assert cli.main(["caption", str(tmp_path / "photo.png"), "--quiet"]) == 0
    assert os.environ.pop("HF_HUB_DISABLE_PROGRESS_BARS") == "1"
