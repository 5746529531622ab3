"""Check names and settings of the published layout: converted in both directions without loss."""

from typing import Any

import pytest
import torch
from support.small_families import OFFICIAL, build_config, build_tokenizer
from torch import Tensor

from sa2va.checkpoints import key_map as keymap
from sa2va.checkpoints.published.layout import LAYOUTS, recognize_family
from sa2va.checkpoints.published.qwen_vl import find_system_turn
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.catalog import FAMILIES, find_family
from sa2va.model.families.templates import find_template
from sa2va.model.mllm import Mllm

Shapes = dict[str, tuple[int, ...]]


def tower_shapes(vision: dict[str, Any], width: int) -> Shapes:
    """The published InternViT and its projector."""
    size, inner, layers = vision["hidden_size"], vision["intermediate_size"], vision["num_hidden_layers"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    shapes: Shapes = {
        "vision_model.embeddings.class_embedding": (1, 1, size),
        "vision_model.embeddings.patch_embedding.weight": (size, 3, vision["patch_size"], vision["patch_size"]),
        "vision_model.embeddings.patch_embedding.bias": (size,),
        "vision_model.embeddings.position_embedding": (1, patches + 1, size),
        "mlp1.0.weight": (4 * size,), "mlp1.0.bias": (4 * size,),
        "mlp1.1.weight": (width, 4 * size), "mlp1.1.bias": (width,),
        "mlp1.3.weight": (width, width), "mlp1.3.bias": (width,),
    }  # fmt: skip
    giant = vision["norm_type"] == "rms_norm"
    for i in range(layers):
        layer: Shapes = {
            "attn.qkv.weight": (3 * size, size), "attn.proj.weight": (size, size), "attn.proj.bias": (size,),
            "mlp.fc1.weight": (inner, size), "mlp.fc1.bias": (inner,),
            "mlp.fc2.weight": (size, inner), "mlp.fc2.bias": (size,),
            "norm1.weight": (size,), "norm2.weight": (size,), "ls1": (size,), "ls2": (size,),
        }  # fmt: skip
        names = ("attn.q_norm.weight", "attn.k_norm.weight") if giant else ("norm1.bias", "norm2.bias")
        layer |= {name: (size,) for name in names}
        if not giant:
            layer["attn.qkv.bias"] = (3 * size,)
        shapes |= {f"vision_model.encoder.layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def text_shapes(llm: dict[str, Any]) -> Shapes:
    """The published text models of the InternVL family."""
    size, inner, words = llm["hidden_size"], llm["intermediate_size"], llm["vocab_size"]
    head = llm.get("head_dim") or size // llm["num_attention_heads"]
    q, kv = head * llm["num_attention_heads"], head * llm["num_key_value_heads"]
    kind = llm["architectures"][0]
    if kind == "InternLM2ForCausalLM":
        start = {"model.tok_embeddings.weight": (words, size), "output.weight": (words, size)}
        layer = {
            "attention.wqkv.weight": (q + 2 * kv, size), "attention.wo.weight": (size, q),
            "feed_forward.w1.weight": (inner, size), "feed_forward.w2.weight": (size, inner),
            "feed_forward.w3.weight": (inner, size), "attention_norm.weight": (size,), "ffn_norm.weight": (size,),
        }  # fmt: skip
    else:
        start = {"model.embed_tokens.weight": (words, size), "lm_head.weight": (words, size)}
        layer = {"self_attn.o_proj.weight": (size, q), "mlp.down_proj.weight": (size, inner)}
        layer |= {"input_layernorm.weight": (size,), "post_attention_layernorm.weight": (size,)}
        if kind == "Phi3ForCausalLM":
            layer |= {"self_attn.qkv_proj.weight": (q + 2 * kv, size), "mlp.gate_up_proj.weight": (2 * inner, size)}
        else:
            layer |= {f"self_attn.{n}_proj.weight": (rows, size) for n, rows in (("q", q), ("k", kv), ("v", kv))}
            layer |= {f"mlp.{name}_proj.weight": (inner, size) for name in ("gate", "up")}
        if kind == "Qwen2ForCausalLM":
            layer |= {f"self_attn.{n}_proj.bias": (rows,) for n, rows in (("q", q), ("k", kv), ("v", kv))}
        if kind == "Qwen3ForCausalLM":
            layer |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    shapes = {**start, "model.norm.weight": (size,)}
    for i in range(llm["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return {f"language_model.{name}": shape for name, shape in shapes.items()}


def official_tensors(kind: str) -> dict[str, Tensor]:
    family, official = OFFICIAL[kind]
    if family == "internvl":
        llm = official["llm_config"]
        shapes = tower_shapes(official["vision_config"], llm["hidden_size"]) | text_shapes(llm)
    else:  # the native model inside a module called "model"; CLIP's parts once had a module of their own
        native = Mllm(family, build_config(kind).mllm).native
        shapes = {
            f"model.{name}".replace(".vision_tower.", ".vision_tower.vision_model."): tuple(value.shape)
            for name, value in native.state_dict().items()
        }
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def to_native(kind: str, official: dict[str, Tensor]) -> dict[str, Tensor]:
    rules = LAYOUTS[OFFICIAL[kind][0]].key_rules(build_config(kind).mllm)
    return dict(keymap.convert(keymap.to_native(rules, list(official)), official.__getitem__))


def to_official(kind: str, native: dict[str, Tensor]) -> dict[str, Tensor]:
    rules = LAYOUTS[OFFICIAL[kind][0]].key_rules(build_config(kind).mllm)
    return dict(keymap.convert(keymap.to_official(rules, list(native)), native.__getitem__))


@pytest.mark.parametrize("kind", list(OFFICIAL))
def test_tensors_come_back_bit_identical(kind: str) -> None:
    official = official_tensors(kind)
    native = to_native(kind, official)
    Mllm(OFFICIAL[kind][0], build_config(kind).mllm).native.load_state_dict(native, strict=True)
    back = to_official(kind, native)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official)


def test_rows_of_grouped_attention_go_where_they_belong() -> None:
    official = official_tensors("internvl_internlm2")
    name = "language_model.model.layers.1.attention.wqkv.weight"
    native = to_native("internvl_internlm2", official)
    rows = official[name].split(8)  # 4 heads over 2 key-value heads of width 8: q q k v, q q k v
    wanted = {"q": (0, 1, 4, 5), "k": (2, 6), "v": (3, 7)}
    for letter, places in wanted.items():
        found = native[f"model.language_model.layers.1.self_attn.{letter}_proj.weight"]
        assert torch.equal(found, torch.cat([rows[place] for place in places]))


def test_biases_of_grouped_attention_are_cut_alike() -> None:
    official = official_tensors("internvl_internlm2")
    name = "language_model.model.layers.0.attention.wqkv"
    official[f"{name}.bias"] = official[f"{name}.weight"][:, 3].clone()
    native = to_native("internvl_internlm2", official)
    for letter in "qkv":
        part = f"model.language_model.layers.0.self_attn.{letter}_proj"
        assert torch.equal(native[f"{part}.bias"], native[f"{part}.weight"][:, 3])
    assert torch.equal(to_official("internvl_internlm2", native)[f"{name}.bias"], official[f"{name}.bias"])


def test_older_names_of_qwen_are_read() -> None:
    new = official_tensors("qwen2_5_vl")
    moved = {"model.model.visual.": "model.visual.", "model.model.language_model.": "model.model."}
    old = {}
    for name, value in new.items():
        start = next((start for start in moved if name.startswith(start)), "")
        old[moved.get(start, "") + name[len(start) :]] = value
    assert old.keys() != new.keys()
    native = to_native("qwen2_5_vl", old)
    assert to_official("qwen2_5_vl", native).keys() == new.keys()


def agree(ours: Any, theirs: Any) -> bool:
    """Return whether two configurations agree in the fields that both have."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(agree(ours[key], theirs[key]) for key in ours.keys() & theirs.keys())
    return ours == theirs


@pytest.mark.parametrize("kind", list(OFFICIAL))
def test_settings_come_back(kind: str) -> None:
    family, official = OFFICIAL[kind]
    assert recognize_family(official) == family
    layout, ids = LAYOUTS[family], build_tokenizer().get_vocab()
    fields = layout.config_from_official(official, ids, "")
    written = layout.config_to_official(Sa2VAConfig(family=family, **fields))
    assert layout.config_from_official(written, ids, "") == fields
    written["template"] = official["template"]  # a dash and an underscore are the same there
    if kind == "qwen2_5_vl":
        written["text_config"].pop("rope_scaling")  # "mrope" is the default kind by another name
    assert agree(written, official)
    assert find_template(fields["template"])


def test_rotary_settings_are_carried_over() -> None:
    ropes = {kind: build_config(kind).mllm["text_config"]["rope_parameters"] for kind in OFFICIAL}
    assert ropes["internvl_internlm2"] == {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert ropes["internvl_phi3"]["rope_type"] == "longrope"
    assert ropes["qwen2_5_vl"] == {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
    assert ropes["qwen3_vl"]["rope_theta"] == 5e6 and ropes["qwen3_vl"]["mrope_interleaved"]


@pytest.mark.parametrize(
    ("chat_template", "said"),
    [
        ("", ""),
        ("{% if loop.first %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}",
         "You are a helpful assistant."),
        (r"{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}", "Be kind."),
        (r"{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}", ""),
        ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}", ""),
    ],
)  # fmt: skip
def test_a_system_turn_that_a_chat_template_adds(chat_template: str, said: str) -> None:
    assert find_system_turn(chat_template) == said
    fields = LAYOUTS["qwen2_5_vl"].config_from_official(OFFICIAL["qwen2_5_vl"][1], {}, chat_template)
    assert fields["system"] == said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llm_config": {"architectures": ["BloomForCausalLM"]}}, "language model 'BloomForCausalLM' is unknown"),
        ({"llm_config": {}}, "language model None is unknown"),
        ({"ps_version": "v1"}, "ps_version 'v1' is not supported"),
    ],
)
def test_settings_that_no_published_model_has(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        LAYOUTS["internvl"].config_from_official(OFFICIAL["internvl_qwen2"][1] | change, {"<IMG_CONTEXT>": 1}, "")
    assert "\n" not in str(error.value)


def test_every_family_has_a_published_layout() -> None:
    assert LAYOUTS.keys() == FAMILIES.keys()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="the tokenizer has no <IMG_CONTEXT> token"):
        LAYOUTS["internvl"].config_from_official(OFFICIAL["internvl_qwen2"][1], {}, "")
    with pytest.raises(ValueError, match="unknown chat template 'alpaca'"):
        find_template("alpaca")
    with pytest.raises(ValueError, match="unknown model family 'parrot'"):
        find_family("parrot")
    with pytest.raises(ValueError, match="keyframes 'last' is unknown"):
        Sa2VAConfig(keyframes="last")
