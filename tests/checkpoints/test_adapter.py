"""Check that a LoRA adapter changes the model as PEFT itself would, and that a wrong one is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_model import build_model, draw_sample

from sa2va.checkpoints.adapter import merge_adapter
from sa2va.checkpoints.folder import save_checkpoint
from sa2va.inference.loading import load
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request

peft = pytest.importorskip("peft", reason="pip install 'sa2va[adapter]'")
REQUEST = Request(draw_sample(3).frames[0], "Please segment the red square.")


def last_state(predictor: Predictor) -> torch.Tensor:
    return predictor.engine.prefill([predictor.engine.open(REQUEST, Options())], 1)[1]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter for two of the linear layers of each block, as PEFT saves it; no weight is zero."""
    model, _ = build_model()
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(7)
    peft.get_peft_model(model.mllm.native, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_merging_equals_the_adapter_at_work(adapter: Path) -> None:
    attached, processor = build_model()
    attached.mllm.native = peft.PeftModel.from_pretrained(attached.mllm.native, str(adapter)).base_model.model
    merged, _ = build_model()
    merge_adapter(merged, adapter)
    expected, got = last_state(Predictor(attached, processor)), last_state(Predictor(merged, processor))
    assert torch.allclose(got, expected, atol=1e-4)
    assert not torch.allclose(got, last_state(Predictor(*build_model())), atol=1e-2)
    assert merged.state_dict().keys() == build_model()[0].state_dict().keys()  # nothing of PEFT is left


def test_load_takes_an_adapter(adapter: Path, tmp_path: Path) -> None:
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, tmp_path / "model", torch.float32)
    merge_adapter(model, adapter)
    got = last_state(load(tmp_path / "model", adapter=adapter, device="cpu"))
    assert torch.allclose(got, last_state(Predictor(model, processor)), atol=1e-5)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def change_config(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def drop_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors.pop(min(tensors))


def add_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors["surplus.lora_A.weight"] = torch.zeros(2)


def spoil_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors[min(tensors)][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), "is not a LoRA adapter: it has no adapter_config.json"),
        (
            lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
            "is not a LoRA adapter: it has no adapter_model.safetensors",
        ),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\x10\x00"), "is damaged"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "is not valid JSON"),
        (lambda f: change_config(f, peft_type="LOHA"), "is a .*LOHA adapter; only LoRA adapters can be merged"),
        (lambda f: change_config(f, target_modules=["wqkv"]), "does not fit this model"),
        (lambda f: change_config(f, target_modules=["q_proj"]), "does not fit this model: it has an unknown tensor"),
        (lambda f: change_config(f, r=8), "does not fit this model"),
        (lambda f: change_config(f, r=10**9), "r is 1000000000; expected a whole number from 1 to 64"),
        (lambda f: change_config(f, r="8"), "r is '8'; expected a whole number"),
        (lambda f: change_config(f, lora_alpha=-1), "lora_alpha is -1; expected"),
        (lambda f: change_config(f, lora_dropout=7.0), "lora_dropout is 7.0; expected"),
        (lambda f: change_config(f, target_modules=r"(([a-z])+.)+[A-Z]"), "target_modules .* repeats a group that"),
        (lambda f: change_config(f, target_modules=".*.*.*.*.*q"), "target_modules .* has too many repeats"),
        (lambda f: change_config(f, target_modules=5), "target_modules is 5; expected names or a pattern"),
        (lambda f: change_config(f, exclude_modules="(a|a)+b"), "exclude_modules .* repeats a group that holds"),
        (lambda f: change_config(f, rank_pattern={"(x+x+)+y": 4}), "rank_pattern .* repeats a group that holds"),
        (lambda f: change_config(f, rank_pattern={"q_proj": 10**9}), "r is 1000000000; expected"),
        (lambda f: change_config(f, layer_replication=[[0, 10**9]]), "layer_replication is not supported"),
        (lambda f: change_config(f, megatron_config={"a": 1}), "megatron_config is not supported"),
        (lambda f: change_config(f, use_dora="yes"), "use_dora is 'yes'; expected true or false"),
        (lambda f: (f / "adapter_config.json").write_text('{"a":' * 100_000), "is nested more than 64 deep"),
        (lambda f: change_weights(f, drop_one), "does not fit this model: it lacks tensor"),
        (lambda f: change_weights(f, add_one), "it has an unknown tensor surplus.lora_A.weight"),
        (lambda f: change_weights(f, spoil_one), "holds values that are not finite"),
    ],
)
def test_a_wrong_adapter_is_refused(adapter: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(adapter)
    with pytest.raises(ValueError, match=message) as error:
        merge_adapter(build_model()[0], adapter)
    assert "\n" not in str(error.value)


def test_without_the_extra_the_error_says_what_to_install(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'sa2va\[adapter\]'"):
        merge_adapter(build_model()[0], adapter)
