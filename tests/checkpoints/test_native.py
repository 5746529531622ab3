"""Check how native models are loaded: silently, completely or not at all, with non-persistent buffers."""

from pathlib import Path

import pytest
import torch
from support.small_model import build_model
from transformers.utils import logging

from sa2va.checkpoints.folder import build_empty
from sa2va.checkpoints.native import compute_buffers, load_native, one_line, refuse_problems, silent_transformers


def test_a_folder_is_loaded_whole(tmp_path: Path) -> None:
    native = build_model()[0].sam2.native
    native.save_pretrained(tmp_path)
    loaded, report = load_native(type(native), tmp_path, native.config, torch.float32)
    refuse_problems(report, tmp_path, "copy it again")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in native.state_dict().items())


@pytest.mark.parametrize("problem", ["missing", "mismatched", "unexpected"])
def test_a_tensor_with_a_problem_is_named(problem: str, tmp_path: Path) -> None:
    report = {f"{kind}_keys": set() for kind in ("missing", "mismatched", "unexpected")} | {f"{problem}_keys": {"b.w"}}
    with pytest.raises(ValueError, match=f"tensor b.w is {problem}; copy it again"):
        refuse_problems(report, tmp_path, "copy it again")


def test_the_level_of_the_library_comes_back() -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), silent_transformers():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_buffers_are_those_of_a_built_model() -> None:
    model = build_model()[0]
    empty = build_empty(model.config)
    empty.load_state_dict(model.state_dict(), assign=True)
    for built, filled in ((model.mllm.native, empty.mllm.native), (model.sam2.native, empty.sam2.native)):
        compute_buffers(filled, torch.device("cpu"))
        buffers = dict(built.named_non_persistent_buffers())
        assert buffers and all(
            torch.equal(value, buffers[name]) for name, value in filled.named_non_persistent_buffers()
        )
        assert all(torch.equal(value, built.state_dict()[name]) for name, value in filled.state_dict().items())


def test_a_message_is_one_short_line() -> None:
    assert one_line(ValueError("first\n  second\tthird")) == "first second third"
    assert len(one_line(ValueError("x" * 1_000))) == 300
