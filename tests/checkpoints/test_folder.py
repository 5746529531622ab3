"""Check that a model folder is loaded exactly as saved, and that a wrong one is refused in one line."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_model import draw_sample

from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.inference.loading import load
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Request
from sa2va.model.config import Sa2VAConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA

Small = tuple[Sa2VA, Processor]


def test_save_load_predict_is_identical(folder: Path, predictor: Predictor) -> None:
    again = load(str(folder), device="cpu", dtype="float32")
    request = Request(draw_sample(3).frames[0], "Please segment the red square.")
    before, after = predictor.probe_batch([request])[0], again.probe_batch([request])[0]
    assert np.array_equal(before.masks, after.masks)
    assert before.objects[0].presence == after.objects[0].presence
    assert predictor.predict(request.media, request.prompt).text == again.predict(request.media, request.prompt).text


def test_a_folder_holds_nothing_but_weights_config_and_tokenizer(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}


def test_frequencies_stay_float32_and_ties_stay_tied(small: Small, tmp_path: Path) -> None:
    """Non-persistent buffers are recomputed: rounded rotary frequencies would rotate distant tokens by wrong angles."""
    model, processor = small
    values = copy.deepcopy(model.config.to_dict())
    values["mllm"]["tie_word_embeddings"] = values["mllm"]["text_config"]["tie_word_embeddings"] = True
    tied = Sa2VA(Sa2VAConfig.from_dict(values))
    save_checkpoint(tied, processor.tokenizer, tmp_path, torch.float32)
    again, _ = load_checkpoint(tmp_path, torch.device("cpu"), torch.bfloat16)
    plain = dict(tied.named_buffers())
    buffers = {name: value for name, value in again.named_buffers() if name not in again.state_dict()}
    assert {name.rpartition(".")[2] for name in buffers} == {"inv_freq", "original_inv_freq", "position_ids"}
    assert all(torch.equal(value, plain[name]) and value.dtype == plain[name].dtype for name, value in buffers.items())
    assert {value.dtype for value in again.parameters()} == {torch.bfloat16}
    native = again.mllm.native
    assert native.lm_head.weight is native.get_input_embeddings().weight


def drop_tensor(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["projector.fc1.weight"]


def add_tensor(tensors: dict[str, torch.Tensor]) -> None:
    tensors["surplus.weight"] = torch.zeros(2)


def reshape_tensor(tensors: dict[str, torch.Tensor]) -> None:
    tensors["projector.fc1.weight"] = torch.zeros(2, 3)


def spoil_tensor(tensors: dict[str, torch.Tensor]) -> None:
    tensors["projector.fc1.weight"][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_tensor, "tensor projector.fc1.weight is missing"),
        (add_tensor, "tensor surplus.weight is unknown"),
        (reshape_tensor, r"projector.fc1.weight has shape \(2, 3\), expected \(64, 64\)"),
        (spoil_tensor, "projector.fc1.weight holds values that are not finite"),
    ],
)
def test_wrong_tensors_are_named(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    wrong = tmp_path / "copy"
    shutil.copytree(folder, wrong)
    tensors = load_file(wrong / "model.safetensors")
    change(tensors)
    save_file(tensors, wrong / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load(str(wrong))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\x10\x00", "damaged or cut short"),
        ("config.json", b"{", "not valid JSON"),
        ("config.json", json.dumps({"colour": 1}).encode(), "unknown keys"),
        ("config.json", json.dumps({"family": "parrot"}).encode(), "unknown model family 'parrot'"),
    ],
)
def test_damaged_files_are_named(folder: Path, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    wrong = tmp_path / "copy"
    shutil.copytree(folder, wrong)
    (wrong / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load(str(wrong))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "no/such/model"}, "no model 'no/such/model'"),
        ({"name": ".", "device": "abacus"}, "device 'abacus' is unknown"),
        ({"name": ".", "dtype": "float7"}, "unknown dtype 'float7'"),
        ({"name": "."}, "is not a model folder"),
    ],
)
def test_bad_arguments_of_load(
    arguments: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(**arguments)
