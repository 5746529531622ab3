"""Translate InternVL folders: config.json and tensor names, published and native.

Flow: published/layout.py -> these functions -> Sa2VAConfig fields, Rules.
Source: the InternVL folders published with Sa2VA, arXiv:2501.04001, and InternLM2, arXiv:2403.17297.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.published.fields import header, side_of, text_to_native, text_to_official
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.internvl import IMAGE_TOKEN

MAX_TILES = 12  # of the released code, which ignores the number in its config
# Published architecture of the language model -> published and native model type. InternLM2 is a Llama whose query,
# key and value rows are stored in one tensor.
_TEXT_MODELS = {
    "Qwen2ForCausalLM": ("qwen2", "qwen2"),
    "Qwen3ForCausalLM": ("qwen3", "qwen3"),
    "InternLM2ForCausalLM": ("internlm2", "llama"),
    "LlamaForCausalLM": ("llama", "llama"),
    "Phi3ForCausalLM": ("phi3", "phi3"),
}
_VISION_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "hidden_act": "hidden_act",
    "norm_type": "norm_type",
    "layer_norm_eps": "layer_norm_eps",
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
}


def _architecture(text: dict[str, Any]) -> str:
    """Name the published architecture of a native text configuration."""
    if text.get("architectures"):
        return text["architectures"][0]
    return next(name for name, (_, native) in _TEXT_MODELS.items() if native == text["model_type"])


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig from a published config.json, without `family` and `sam2`.

    Args:
        official: the file's content.
        tokenizer_ids: token -> id of its tokenizer.
        chat_template: unused; the released code of this family has templates of its own.

    Raises:
        ValueError: no published model has this text model or setting.
    """
    llm, vision = official["llm_config"], official["vision_config"]
    architecture = (llm.get("architectures") or [None])[0]
    if architecture not in _TEXT_MODELS:
        raise ValueError(f"config.json: language model {architecture!r} is unknown; known: {', '.join(_TEXT_MODELS)}")
    if official.get("ps_version", "v2") != "v2":
        raise ValueError(f"config.json: ps_version {official['ps_version']!r} is not supported; expected 'v2'")
    if IMAGE_TOKEN not in tokenizer_ids:
        raise ValueError(f"the tokenizer has no {IMAGE_TOKEN} token; copy all tokenizer files of the model")
    text = text_to_native(llm)
    if architecture == "InternLM2ForCausalLM":
        text["attention_bias"] = bool(llm.get("bias", False))
    text |= {"model_type": _TEXT_MODELS[architecture][1], "architectures": [architecture]}
    tower = {native: vision[key] for key, native in _VISION_KEYS.items() if key in vision}
    # use_mean_pooling=True removes the native tower's final norm, which the published one does not have.
    tower |= {"use_absolute_position_embeddings": True, "use_mean_pooling": True}
    ratio = official.get("downsample_ratio", 0.5)
    tile_size = official.get("force_image_size") or vision["image_size"]
    return {
        "mllm": {
            "vision_config": tower,
            "text_config": text,
            "image_token_id": tokenizer_ids[IMAGE_TOKEN],
            "downsample_ratio": ratio,
            "vision_feature_layer": official.get("select_layer", -1),
            "tie_word_embeddings": False,
        },
        "template": official["template"].replace("-", "_"),
        "question_joint": "",
        "tile_size": tile_size,
        "tokens_per_tile": int((tile_size // side_of(vision["patch_size"])) ** 2 * ratio**2),
        "max_tiles": MAX_TILES,
        "keyframes": "first",
    }


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the published config.json of a model, without its SAM 2 part."""
    text, tower = config.mllm["text_config"], config.mllm["vision_config"]
    architecture = _architecture(text)
    llm = text_to_official(text, kind_key="type")
    if architecture == "InternLM2ForCausalLM":
        llm["bias"] = llm.pop("attention_bias", False)
    llm |= {"model_type": _TEXT_MODELS[architecture][0], "architectures": [architecture]}
    vision = {key: tower[native] for key, native in _VISION_KEYS.items() if native in tower}
    vision |= {key: side_of(vision[key]) for key in ("image_size", "patch_size") if key in vision}
    vision |= {"model_type": "intern_vit_6b", "architectures": ["InternVisionModel"]}
    return {
        **header(),
        "vision_config": vision,
        "llm_config": llm,
        "template": config.template,
        "downsample_ratio": config.mllm.get("downsample_ratio", 0.5),
        "select_layer": config.mllm.get("vision_feature_layer", -1),
        "force_image_size": config.tile_size,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "ps_version": "v2",
        "pad2square": False,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": config.max_tiles,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "hidden_size": text["hidden_size"],
    }


def _vision_rules() -> list[Rule]:
    official, native = "vision_model.encoder.layers.{i}.", "model.vision_tower.encoder.layer.{i}."
    parts = {
        "norm1.{rest}": "layernorm_before.{rest}",
        "norm2.{rest}": "layernorm_after.{rest}",
        "ls1": "lambda_1",
        "ls2": "lambda_2",
        "mlp.{rest}": "mlp.{rest}",
        "attn.proj.{rest}": "attention.projection_layer.{rest}",
        "attn.q_norm.{rest}": "attention.q_norm.{rest}",
        "attn.k_norm.{rest}": "attention.k_norm.{rest}",
    }
    start = {
        "vision_model.embeddings.class_embedding": "embeddings.cls_token",
        "vision_model.embeddings.position_embedding": "embeddings.position_embeddings",
        "vision_model.embeddings.patch_embedding.{rest}": "embeddings.patch_embeddings.projection.{rest}",
    }
    end = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
    fused = tuple(native + f"attention.{name}_proj.{{rest}}" for name in "qkv")
    return [
        *[Rule.rename(name, f"model.vision_tower.{other}") for name, other in start.items()],
        *[Rule.rename(official + name, native + other) for name, other in parts.items()],
        Rule.split(official + "attn.qkv.{rest}", fused),
        *[Rule.rename(f"mlp1.{n}.{{rest}}", f"model.multi_modal_projector.{name}.{{rest}}") for n, name in end.items()],
    ]


def _grouped_attention(num_heads: int, num_key_value_heads: int) -> Rule:
    """Return the rule for InternLM2's fused attention: rows of queries, key and value, per key-value head."""
    group = num_heads // num_key_value_heads

    def to_native(tensors: Sequence[Tensor]) -> list[Tensor]:
        rows = tensors[0].unflatten(0, (num_key_value_heads, group + 2, -1))
        parts = (rows[:, :group], rows[:, group], rows[:, group + 1])
        return [part.flatten(0, part.ndim - tensors[0].ndim).contiguous() for part in parts]

    def to_official(tensors: Sequence[Tensor]) -> list[Tensor]:
        shapes = ((num_key_value_heads, group, -1), (num_key_value_heads, 1, -1), (num_key_value_heads, 1, -1))
        rows = [tensor.unflatten(0, shape) for tensor, shape in zip(tensors, shapes, strict=True)]
        return [torch.cat(rows, dim=1).flatten(0, 2)]

    official = "language_model.model.layers.{i}.attention.wqkv.{rest}"
    native = tuple(f"model.language_model.layers.{{i}}.self_attn.{name}_proj.{{rest}}" for name in "qkv")
    return Rule((official,), native, to_native, to_official)


def _internlm2_rules(text: dict[str, Any]) -> list[Rule]:
    official, native = "language_model.model.layers.{i}.", "model.language_model.layers.{i}."
    parts = {
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    heads = text["num_attention_heads"]
    return [
        _grouped_attention(heads, text.get("num_key_value_heads") or heads),
        *[Rule.rename(f"{official}{name}.{{rest}}", f"{native}{other}.{{rest}}") for name, other in parts.items()],
        Rule.rename("language_model.model.tok_embeddings.{rest}", "model.language_model.embed_tokens.{rest}"),
        Rule.rename("language_model.model.norm.{rest}", "model.language_model.norm.{rest}"),
        Rule.rename("language_model.output.{rest}", "lm_head.{rest}"),
    ]


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return the rules between published and native names, for the `mllm` part of a Sa2VA config."""
    text = mllm["text_config"]
    if _architecture(text) == "InternLM2ForCausalLM":
        return (*_vision_rules(), *_internlm2_rules(text))
    return (
        *_vision_rules(),
        Rule.rename("language_model.model.{rest}", "model.language_model.{rest}"),
        Rule.rename("language_model.lm_head.{rest}", "lm_head.{rest}"),
    )
