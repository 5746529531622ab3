"""Translate Qwen2.5-VL and Qwen3-VL folders: config.json and tensor names, published and native.

Flow: published/layout.py -> these functions -> Sa2VAConfig fields, Rules.
Source: the Qwen folders published with Sa2VA, arXiv:2501.04001; pixel limits of the released inference code.
"""

import re
from typing import Any

from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.published.fields import header, text_to_native, text_to_official
from sa2va.model.config import Sa2VAConfig

MIN_PIXELS, MAX_PIXELS = 512 * 28 * 28, 2048 * 28 * 28  # pixels of a picture after resizing
_VISION_KEYS = (
    "depth", "hidden_size", "hidden_act", "intermediate_size", "num_heads", "in_channels", "patch_size",
    "spatial_merge_size", "temporal_patch_size", "out_hidden_size", "initializer_range", "tokens_per_second",
    "window_size", "fullatt_block_indexes", "num_position_embeddings", "deepstack_visual_indexes",
)  # fmt: skip
_MARK_KEYS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def find_system_turn(chat_template: str) -> str:
    """Return the default system turn of a published chat template, or "".

    Qwen2.5-VL has one, Qwen3-VL has none. The template is searched, never run.
    """
    found = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>", chat_template)
    return found.group(1) if found else ""


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig from a published config.json, without `family` and `sam2`."""
    text, vision = official.get("text_config") or official, official["vision_config"]
    return {
        "mllm": {
            "text_config": text_to_native(text),
            "vision_config": {key: vision[key] for key in _VISION_KEYS if vision.get(key) is not None},
            **{key: official[key] for key in _MARK_KEYS if key in official},
            "tie_word_embeddings": False,
        },
        "template": official.get("template", "qwen_chat").replace("-", "_"),
        "system": find_system_turn(chat_template),
        "question_joint": "",
        "min_pixels": MIN_PIXELS,
        "max_pixels": MAX_PIXELS,
        "keyframes": "first",
    }


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the published config.json of a model, without its SAM 2 part."""
    text, vision = config.mllm["text_config"], config.mllm["vision_config"]
    return {
        **header("Qwen", "modeling_sa2va_qwen"),
        "text_config": text_to_official(text) | {"model_type": f"{config.family}_text"},
        "vision_config": {**vision, "model_type": config.family},
        **{key: config.mllm[key] for key in _MARK_KEYS if key in config.mllm},
        "template": config.template,
    }


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return the rules between published and native names.

    The native model is a submodule named "model". The last two rules read files of Transformers before 4.52. The first
    match applies, so files are written with the newer names.
    """
    return (
        Rule.rename("model.model.visual.{rest}", "model.visual.{rest}"),
        Rule.rename("model.model.language_model.{rest}", "model.language_model.{rest}"),
        Rule.rename("model.lm_head.{rest}", "lm_head.{rest}"),
        Rule.rename("model.visual.{rest}", "model.visual.{rest}"),
        Rule.rename("model.model.{rest}", "model.language_model.{rest}"),
    )
