"""Check that a tokenizer with wrong values is refused in one line, at once and without memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hostile_folder import copy_changed, refuse

from sa2va.checkpoints.folder import open_checkpoint


def set_part(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update({name: value})


def many(step: dict[str, Any], times: int) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": [step] * times}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (set_part("normalizer", replace({"String": ""}, "x" * 10_000)), "has 10000 characters; expected at most"),
        (set_part("normalizer", many(replace({"String": "e"}, "eeeeeeee"), 12)), "times as long"),
        (set_part("normalizer", many(replace({"String": ""}, "ab"), 9)), "times as long"),
        (set_part("normalizer", many(replace({"Regex": "x*"}, "abcdefgh"), 9)), "times as long"),
        (set_part("normalizer", replace({"Regex": "(a+)+$"}, "")), "repeats a group that holds a repeat"),
        (set_part("normalizer", {"type": "Prepend", "prepend": "p" * 10**6}), "prepend has 1000000 characters"),
        (set_part("normalizer", many({"type": "NFC"}, 10_000)), "expected a list of at most"),
        (set_part("pre_tokenizer", split("(a|aa)+$")), "repeats a group that holds a repeat"),
        (set_part("pre_tokenizer", split("(.*)*x")), "repeats a group that holds a repeat"),
        (set_part("decoder", replace({"String": "a"}, "b" * 1_000)), "content has 1000 characters"),
        (set_part("post_processor", {"type": "TemplateProcessing", "single": [{}] * 10**5, "pair": []}), "at most"),
        (lambda values: values["added_tokens"][0].update(id=10**9), "is 1000000000; expected a whole number"),
        (lambda values: values["added_tokens"][0].update(content="x" * 10**6), "expected a content of 1 to"),
        (lambda values: values["model"].update(dropout=0.9), "model.dropout is 0.9; expected none"),
    ],
)
def test_a_tokenizer_that_explodes_is_one_line(
    native_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    folder = Path(shutil.copytree(native_folder, tmp_path / "copy"))
    values = json.loads((folder / "tokenizer.json").read_text())
    spoil(values)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    assert message in refuse(folder, capsys)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("fast_tokenizer_files", ["tokenizer.1.json"], "fast_tokenizer_files is not supported"),
        ("gguf_file", "model.gguf", "gguf_file is not supported"),
        ("chat_template", "x" * 10**6, "chat_template has more than"),
        ("added_tokens_decoder", {"10000000000": {"content": "<a>"}}, "expected a whole number from 0"),
        ("added_tokens_decoder", [1], "expected an object"),
        ("model_max_length", "x", "model_max_length is 'x'; expected a number of at least 1"),
    ],
)
def test_wrong_settings_of_a_tokenizer_are_one_line(
    native_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, value: Any, message: str
) -> None:
    folder = copy_changed(native_folder, tmp_path / "copy", "tokenizer_config.json", path, value)
    assert message in refuse(folder, capsys)


def test_a_tokenizer_that_cuts_and_fills_texts_does_neither(native_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(native_folder, tmp_path / "copy"))
    values = json.loads((folder / "tokenizer.json").read_text())
    values["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    values["padding"] = {
        "strategy": {"Fixed": 10**6}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(values))
    text = "Please segment the red circle."
    plain, changed = (open_checkpoint(each).tokenizer for each in (native_folder, folder))
    assert changed(text)["input_ids"] == plain(text)["input_ids"]
    assert len(plain(text)["input_ids"]) > 2
