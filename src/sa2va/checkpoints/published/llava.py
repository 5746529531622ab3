"""Translate LLaVA-1.5 folders: config.json and tensor names, published and native.

Flow: published/layout.py -> these functions -> Sa2VAConfig fields, Rules.
Source: the released Sa2VA code for LLaVA-1.5, arXiv:2310.03744.
"""

from typing import Any

from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.published.fields import header, side_of, text_to_native, text_to_official
from sa2va.model.config import Sa2VAConfig

_VISION_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
    "projection_dim", "hidden_act", "layer_norm_eps",
)  # fmt: skip


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig from a published config.json, without `family` and `sam2`.

    Missing fields get the defaults of the native class, as in the code that wrote the file.
    """
    text, vision = official["text_config"], official["vision_config"]
    native = text_to_native(text) | {"model_type": "llama"}
    if official.get("vocab_size"):
        native["vocab_size"] = official["vocab_size"]
    tower = {key: vision[key] for key in _VISION_KEYS if vision.get(key) is not None}
    tower |= {key: side_of(tower[key]) for key in ("image_size", "patch_size")}
    return {
        "mllm": {
            "text_config": native,
            "vision_config": {"model_type": "clip_vision_model", **tower},
            "image_token_id": official.get("image_token_index", official.get("image_token_id")),
            "vision_feature_layer": official.get("vision_feature_layer", -2),
            "vision_feature_select_strategy": official.get("vision_feature_select_strategy", "default"),
            "tie_word_embeddings": False,
        },
        "template": official.get("template", "vicuna").replace("-", "_"),
        "question_joint": "\n",
        "tile_size": tower["image_size"],
        "tokens_per_tile": (tower["image_size"] // tower["patch_size"]) ** 2,
        "max_tiles": 1,
        "keyframes": "first",
    }


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the published config.json of a model, without its SAM 2 part."""
    text, tower = config.mllm["text_config"], config.mllm["vision_config"]
    return {
        **header("Llava"),
        "text_config": text_to_official(text) | {"model_type": "llama"},
        "vision_config": tower,
        "image_token_index": config.mllm["image_token_id"],
        "vision_feature_layer": config.mllm["vision_feature_layer"],
        "vision_feature_select_strategy": config.mllm["vision_feature_select_strategy"],
        "template": config.template,
    }


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return the rules between published and native names."""
    return (
        Rule.rename("model.model.vision_tower.vision_model.{rest}", "model.vision_tower.{rest}"),
        Rule.rename("model.model.multi_modal_projector.{rest}", "model.multi_modal_projector.{rest}"),
        Rule.rename("model.model.language_model.{rest}", "model.language_model.{rest}"),
        Rule.rename("model.lm_head.{rest}", "lm_head.{rest}"),
    )
