"""Check `sa2va assemble`: every family with every form of SAM 2 loads, answers and predicts masks."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published_folder import SMALL_SAM2
from support.small_families import build_family, build_tokenizer
from support.small_model import draw_sample
from transformers import PreTrainedTokenizerFast, Sam2VideoModel

import sa2va
from sa2va.apps import cli
from sa2va.checkpoints import sam2_sizes
from sa2va.checkpoints.folder import load_config
from sa2va.checkpoints.key_map import convert, to_official
from sa2va.checkpoints.sam2_keys import sam2_rules
from sa2va.inference.requests import Options, Request
from sa2va.model.sam.sam2 import Sam2
from sa2va.tokens import ADDED_TOKENS

FAMILIES = ("internvl_qwen2", "qwen2_5_vl", "qwen3_vl")


def write_mllm(folder: Path, kind: str, *, tied: bool = False) -> None:
    """Write an MLLM as Transformers does, with a tokenizer without Sa2VA's tokens and spare rows."""
    whole = build_tokenizer().backend_tokenizer.to_str()
    values = json.loads(whole)
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in ADDED_TOKENS]
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(values))
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **named).save_pretrained(folder)
    config = copy.deepcopy(build_family(kind)[0].mllm.native.config)  # resizing writes into it
    torch.manual_seed(0)
    native = type(build_family(kind)[0].mllm.native)(config)
    native.resize_token_embeddings(len(build_tokenizer()) + 40)
    if tied:
        native.lm_head.weight = native.get_input_embeddings().weight
        native.config.tie_word_embeddings = native.config.get_text_config().tie_word_embeddings = True
    native.save_pretrained(folder)


def write_sam2(folder: Path, version: str) -> Sam2VideoModel:
    torch.manual_seed(3)
    config = sam2_sizes.sam2_config(sam2_sizes.Sam2Size(**SMALL_SAM2), version=version)
    model = Sam2VideoModel(Sam2.build_config(config))
    shared = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(shared)
    model.save_pretrained(folder)
    return model


def run(tmp_path: Path, *words: str) -> int:
    return cli.main(["assemble", *words, "--mllm", str(tmp_path / "mllm"), "--sam", str(tmp_path / "sam"), "-q"])


@pytest.mark.parametrize(("kind", "version"), [*zip(FAMILIES, ("2.0", "2.1", "2.1"), strict=True)])
def test_a_new_model_loads_answers_and_draws(kind: str, version: str, tmp_path: Path) -> None:
    write_mllm(tmp_path / "mllm", kind, tied=kind == "qwen2_5_vl")
    sam2 = write_sam2(tmp_path / "sam", version)
    assert run(tmp_path, str(tmp_path / "new")) == 0
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}

    predictor = sa2va.load(str(tmp_path / "new"), device="cpu")
    media = draw_sample(0).frames[0]
    assert isinstance(predictor.predict(media, "What is this?", options=Options(max_new_tokens=4)).text, str)
    (found,) = predictor.probe_batch([Request(media, "the square")])
    assert found.masks.shape == (1, 1, 64, 64) and np.isfinite(found.objects[0].presence)

    config, tokenizer = predictor.model.config, predictor.processor.tokenizer
    assert config.sam2["enable_occlusion_spatial_embedding"] == (version == "2.1")
    assert config.mllm["text_config"]["vocab_size"] == len(tokenizer) == len(build_tokenizer())
    state = predictor.model.state_dict()
    for name, value in sam2.state_dict().items():
        assert torch.equal(state[f"sam2.native.{name}"], value)
    before = load_file(tmp_path / "mllm" / "model.safetensors")
    embedding = next(value for name, value in before.items() if "embed_tokens" in name)
    rows = len(build_tokenizer()) - len(ADDED_TOKENS)
    assert torch.equal(predictor.model.mllm.native.get_input_embeddings().weight[:rows], embedding[:rows])
    head = predictor.model.mllm.native.lm_head.weight
    assert head.data_ptr() != predictor.model.mllm.native.get_input_embeddings().weight.data_ptr()


def test_a_seed_decides_what_is_new(tmp_path: Path) -> None:
    write_mllm(tmp_path / "mllm", "internvl_qwen2")
    write_sam2(tmp_path / "sam", "2.0")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run(tmp_path, str(tmp_path / name), "--seed", seed, "--dtype", "bfloat16") == 0
    one, same, other = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert {value.dtype for value in one.values()} == {torch.bfloat16}
    different = {name for name in one if not torch.equal(one[name], other[name])}
    assert {name.split(".")[0] for name in different} <= {"projector", "mllm"} and "projector.fc1.weight" in different


def test_a_raw_checkpoint_needs_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sam2_sizes.SIZES, "small for tests", sam2_sizes.Sam2Size(**SMALL_SAM2))
    write_mllm(tmp_path / "mllm", "internvl_qwen2")
    state = write_sam2(tmp_path / "native", "2.1").state_dict()
    steps = to_official(sam2_rules(raw=True), list(state))
    torch.save({"model": dict(convert(steps, state.__getitem__))}, tmp_path / "sam")
    assert run(tmp_path, str(tmp_path / "new")) == 2
    assert "is a pickle" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert run(tmp_path, str(tmp_path / "new"), "--unsafe-pickle-ok") == 0
    new = load_file(tmp_path / "new" / "model.safetensors")
    assert all(torch.equal(new[f"sam2.native.{name}"], value) for name, value in state.items())
    assert load_config(tmp_path / "new").sam2["enable_occlusion_spatial_embedding"]


def test_positions_that_were_written_once_are_shared(tmp_path: Path) -> None:
    """Transformers before 5 left out one of the two names of SAM 2's position matrix."""
    write_mllm(tmp_path / "mllm", "internvl_qwen2")
    write_sam2(tmp_path / "sam", "2.1")
    tensors = load_file(tmp_path / "sam" / "model.safetensors")
    positions = tensors.pop("prompt_encoder.shared_embedding.positional_embedding")
    save_file(tensors, tmp_path / "sam" / "model.safetensors", metadata={"format": "pt"})
    assert run(tmp_path, str(tmp_path / "new")) == 0
    new = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(new["sam2.native.prompt_encoder.shared_embedding.positional_embedding"], positions)
    assert torch.equal(new["sam2.native.shared_image_embedding.positional_embedding"], positions)


def test_an_assembled_model_can_be_published(tmp_path: Path) -> None:
    write_mllm(tmp_path / "mllm", "qwen3_vl")
    write_sam2(tmp_path / "sam", "2.0")
    assert run(tmp_path, str(tmp_path / "new")) == 0
    assert cli.main(["convert", str(tmp_path / "new"), str(tmp_path / "published"), "--to", "official", "-q"]) == 0
    assert load_config(tmp_path / "published").mllm == load_config(tmp_path / "new").mllm


def set_type(folder: Path, name: str) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": name}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: set_type(f / "mllm", "internvl_chat"), "'internvl_chat' is not one of .* ends in -hf"),
        (lambda f: set_type(f / "mllm", "bert"), "'bert' is not one of"),
        (lambda f: set_type(f / "sam", "bert"), "describes a 'bert' model"),
        (lambda f: (f / "mllm" / "model.safetensors").unlink(), "holds no MLLM that can be read"),
        (lambda f: (f / "mllm" / "model.safetensors").write_bytes(b"\0" * 50), "holds no MLLM that can be read"),
        (lambda f: (f / "mllm" / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "mllm" / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "sam").rename(f / "gone"), "sam"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    spoil: Callable[[Path], object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mllm(tmp_path / "mllm", "internvl_qwen2")
    write_sam2(tmp_path / "sam", "2.0")
    spoil(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, str(tmp_path / "new")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "new").exists()
