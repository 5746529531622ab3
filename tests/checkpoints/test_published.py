"""Check that published folders of every family load strictly, and that mismatches are refused in one line."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published_folder import KINDS, make_published, write_published
from support.small_families import build_tokenizer
from support.small_model import draw_sample
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sa2va.checkpoints.folder import load_checkpoint, load_config, open_checkpoint
from sa2va.checkpoints.key_map import to_native
from sa2va.checkpoints.published import layout
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Request
from sa2va.model.families.catalog import find_family
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import ADDED_TOKENS

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
CPU = torch.device("cpu")
Values = dict[str, Any]


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_loads_as_it_was(kind: str, tmp_path: Path) -> None:
    write_published(tmp_path, kind)
    model, processor = load_checkpoint(tmp_path, CPU, torch.float32)
    original = make_published(kind)[0]
    assert model.config == original.config == load_config(tmp_path)
    assert processor.config.keyframes == "first"
    plain = Sa2VA(model.config).eval()  # built the ordinary way, for the buffers that no file holds
    expected = dict(plain.named_buffers()) | original.state_dict()
    found = dict(model.named_buffers()) | model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name
    assert not any(p.is_meta for p in model.parameters())


@pytest.mark.parametrize("kind", ["internvl_internlm2", "qwen3_vl"])
def test_a_loaded_folder_predicts_as_the_model_it_was_written_from(kind: str, tmp_path: Path) -> None:
    write_published(tmp_path, kind, num_shards=3)
    original = make_published(kind)[0]
    loaded = Predictor(*load_checkpoint(tmp_path, CPU, torch.float32))
    before = Predictor(original, loaded.processor)
    media = draw_sample(1).frames[0]
    one, other = (p.probe_batch([Request(media, "the square")])[0] for p in (before, loaded))
    assert np.array_equal(one.masks, other.masks)
    assert one.objects[0].presence == other.objects[0].presence


def test_a_path_says_nothing(tmp_path: Path) -> None:
    """The family is that of config.json, whatever the folder's name."""
    folder = tmp_path / "Sa2VA-InternVL3-8B"
    write_published(folder, "qwen2_5_vl")
    assert load_config(folder).family == "qwen2_5_vl"


@pytest.mark.parametrize("kind", KINDS)
def test_config_goes_there_and_back(kind: str) -> None:
    config = make_published(kind)[0].config
    official = layout.config_to_official(config)
    assert layout.is_published(official)
    assert layout.config_from_official(official, build_tokenizer()) == config


@pytest.mark.parametrize("kind", KINDS)
def test_rules_cover_every_tensor_once(kind: str) -> None:
    model, _, tensors = make_published(kind)
    made = [target for step in to_native(layout.key_rules(model.config), list(tensors)) for target in step.targets]
    assert sorted(made) == sorted(model.state_dict())


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"model_type": "sa2va_chat"}, True),
        ({"architectures": ["Sa2VAChatModelQwen"]}, True),
        ({"model_type": "sa2va"}, False),
        ({"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl"}, False),
        ({"architectures": None}, False),
        ({}, False),
    ],
)
def test_what_is_a_published_config(values: Values, answer: bool) -> None:
    assert layout.is_published(values) is answer


# ---- refusals: config.json


def drop(*path: str) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


def put(value: object, *path: str) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


SIZE = len(build_tokenizer())
BAD_CONFIGS = [
    ("internvl_qwen2", put("mlcd", "vision_config", "model_type"), "unknown architecture .Sa2VAChatModel with.*'mlcd'"),
    ("qwen3_vl", put("qwen9_vl", "vision_config", "model_type"), None),
    ("internvl_qwen2", put(["GptForCausalLM"], "llm_config", "architectures"), "'GptForCausalLM' is unknown"),
    ("internvl_qwen2", drop("vision_config", "patch_size"), "not a complete internvl configuration"),
    ("internvl_qwen2", put("mystery", "template"), "mystery"),
    ("internvl_qwen2", put("v9", "ps_version"), "ps_version 'v9'"),
    ("internvl_qwen2", put({"image_size": 64}, "sam2_tiny_override"), "sam2_tiny_override"),
    ("internvl_qwen2", put(SIZE + 5, "llm_config", "vocab_size"), f"has {SIZE} tokens, .*vocabulary of {SIZE + 5}"),
    ("internvl_qwen2", put(SIZE - 1, "llm_config", "vocab_size"), f"has {SIZE} tokens, .*vocabulary of {SIZE - 1}"),
    ("qwen3_vl", put(3, "image_token_id"), "<.image_pad.> the id .*, config.json says 3"),
    ("internvl_qwen2", put("sam", "model_type"), None),
]


@pytest.mark.parametrize(("kind", "change", "message"), BAD_CONFIGS)
def test_configs_that_do_not_fit_are_refused(
    kind: str, change: Callable[[Values], None], message: str | None, tmp_path: Path
) -> None:
    write_published(tmp_path, kind)
    values = copy.deepcopy(make_published(kind)[1])
    change(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    if message is None:  # still clear enough from the rest
        assert load_config(tmp_path) == make_published(kind)[0].config
        return
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(tmp_path, CPU, torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["internvl_qwen2", "qwen3_vl"])
@pytest.mark.parametrize("token", [ADDED_TOKENS[0], ADDED_TOKENS[-1], "image"])
def test_a_tokenizer_that_lacks_a_token_is_refused(kind: str, token: str, tmp_path: Path) -> None:
    write_published(tmp_path, kind)
    name = find_family(make_published(kind)[0].config.family).image_token if token == "image" else token
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace(f'"{name}"', '"<other>"'))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "<other>" in PreTrainedTokenizerFast.from_pretrained(tmp_path).get_vocab()
    with pytest.raises(ValueError, match="the tokenizer (has no|gives)") as error:
        load_config(tmp_path)
    assert name in str(error.value) and "\n" not in str(error.value)


# ---- refusals: tensors


def spoil_value(tensors: dict[str, Tensor], name: str, value: float) -> None:
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[-1] = value


WQKV = "language_model.model.layers.1.attention.wqkv.weight"
FUSED = "vision_model.encoder.layers.0.attn.qkv.bias"
SAM = "grounding_encoder.sam2_model."
BAD_TENSORS = [
    (lambda t: t.pop("text_hidden_fcs.0.bias"), "tensor text_hidden_fcs.0.bias is missing"),
    (lambda t: t.pop(WQKV), f"tensor {WQKV} is missing"),
    (lambda t: t.pop(SAM + "sam_prompt_encoder.point_embeddings.2.weight"), "point_embeddings.2.weight is missing"),
    (lambda t: t.update({"surplus.weight": torch.zeros(1)}), "tensor surplus.weight is unknown"),
    (lambda t: t.update({SAM + "no_obj_embed_spatial": torch.zeros(1, 64)}), "no_obj_embed_spatial is unknown"),
    (lambda t: t.update({FUSED: torch.zeros(8)}), rf"{FUSED}: .*\(8,\) cannot be cut into 3"),
    (lambda t: t.update({FUSED: torch.zeros(9)}), rf"{FUSED} has shape \(9,\), expected \(24,\) for .*q_proj"),
    (lambda t: t.update({"mlp1.1.bias": torch.zeros(3)}), r"mlp1.1.bias has shape \(3,\), expected \(32,\)"),
    (lambda t: spoil_value(t, WQKV, float("nan")), f"{WQKV} holds values that are not finite"),
    (lambda t: spoil_value(t, SAM + "no_mem_embed", float("-inf")), "no_mem_embed holds values that are not finite"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TENSORS)
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    tensors = dict(write_published(tmp_path, "internvl_internlm2"))
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(tmp_path, CPU, torch.float32)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model-00002-of-00003.safetensors").unlink(), "has no model-00002-of-00003.safetensors"),
        (lambda f: (f / "model-00003-of-00003.safetensors").write_bytes(b"\0" * 99), "00003-of-00003.*damaged"),
    ],
)
def test_shards_that_are_gone_or_cut_are_named(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    write_published(tmp_path, num_shards=3)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(tmp_path)


def test_an_older_spelling_loads_too(tmp_path: Path) -> None:
    """Qwen2.5-VL folders written before Transformers 4.52 have image encoder and text layers elsewhere."""
    tensors = write_published(tmp_path, "qwen2_5_vl")
    older = {
        name.replace("model.model.visual.", "model.visual.").replace("model.model.language_model.", "model.model."): t
        for name, t in tensors.items()
    }
    assert older.keys() != tensors.keys()
    save_file(older, tmp_path / "model.safetensors")
    model, _ = load_checkpoint(tmp_path, CPU, torch.float32)
    expected = make_published("qwen2_5_vl")[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


# ---- recordings


@pytest.mark.parity
@pytest.mark.parametrize("variant", ["internvl_qwen2", "internvl_internlm2", "qwen3vl"])
class TestRecorded:
    """Folders written by the reference, with what it computed from them."""

    @pytest.fixture
    def folder(self, variant: str) -> Path:
        if not (GOLDEN / variant).is_dir():
            pytest.skip(f"no recording {GOLDEN / variant}")
        return GOLDEN / variant

    def test_every_tensor_is_used(self, folder: Path) -> None:
        checkpoint = open_checkpoint(folder)
        recorded = json.loads((folder / "key_map.json").read_text())
        used = {source for step in checkpoint.steps() for source in step.sources}
        assert used == recorded.keys()

    def test_image_masks_are_the_recorded_ones(self, folder: Path) -> None:
        """The random decoder amplifies rounding: in float64 the recording itself is 4e-4 away (scale 8 to 11)."""
        model, processor = load_checkpoint(folder, CPU, torch.float32)
        recorded = load_file(folder / "image.safetensors")
        with torch.no_grad():
            prompts = model.projector(recorded["seg_hidden"])
            assert torch.allclose(prompts, recorded["seg_embed"], atol=1e-5)
            frames = model.sam2.encode_frames(processor.sam_pixel_values(recorded["images_uint8"].numpy()))
            for n, prompt in enumerate(recorded["seg_embed"]):
                sparse = model.sam2.language_prompt(prompt[None], 1)
                output = model.sam2.decode(model.sam2.without_memory(frames.embeds), frames.high_res, sparse)
                assert (output.mask_logits - recorded[f"seg{n}_low"][:, 0]).abs().max() < 1e-3
                assert (output.pointers - recorded[f"seg{n}_ptr"]).abs().max() < 1e-4
                assert (output.presence_logits - recorded[f"seg{n}_score"][:, 0]).abs().max() < 1e-4
