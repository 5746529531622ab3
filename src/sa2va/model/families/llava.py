"""Drive the LLaVA-1.5 family.

Flow: picture -> one tile -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: LLaVA-1.5, arXiv:2310.03744; the released Sa2VA code, which squeezes every picture and frame into one square
    and has no tokens around its 576 image places.
Shapes: P pictures, s their side in px, B samples, L tokens, D width, V visual tokens, Y vocabulary.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, LlavaConfig, LlavaForConditionalGeneration

from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.rope import rope_to_native, rope_to_official
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.internvl import positions as positions
from sa2va.model.families.internvl import split_tiles
from sa2va.model.families.protocol import Picture, TextInput, VisualTokens, call_text_model, side_of
from sa2va.model.pixels import CLIP_MEAN, CLIP_STD, normalise

IMAGE_TOKEN = "<image>"
PICTURE_JOINT = "\n"  # between the pictures of a prompt
TAKES_REGIONS = False
PIXEL_MEAN, PIXEL_STD = CLIP_MEAN, CLIP_STD
LAYER_NAMES = {
    ("text_config", "num_hidden_layers"): "model.language_model.layers.",
    ("vision_config", "num_hidden_layers"): "model.vision_tower.encoder.layers.",
}

_TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "initializer_range",
)  # fmt: skip
_TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")
_VISION_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
    "projection_dim", "hidden_act", "layer_norm_eps",
)  # fmt: skip


def build_mllm(config: dict[str, Any]) -> LlavaForConditionalGeneration:
    """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
    return LlavaForConditionalGeneration(LlavaConfig(**config))


def language_model(mllm: LlavaForConditionalGeneration) -> nn.Module:
    """Return the text model, without its head."""
    return mllm.model.language_model


def encode_images(mllm: LlavaForConditionalGeneration, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
    """Return the visual tokens (V, D) of the pictures (P, 3, s, s)."""
    output = mllm.model.get_image_features(pixel_values=pixel_values, return_dict=True)
    return VisualTokens(torch.cat(list(output.pooler_output)))


def run_text(mllm: LlavaForConditionalGeneration, inputs: TextInput, cache: DynamicCache | None) -> Tensor:
    """Return the states (B, L, D) that [SEG] is read from: after the final norm."""
    return call_text_model(language_model(mllm), inputs, cache)


def logits(mllm: LlavaForConditionalGeneration, states: Tensor) -> Tensor:
    return mllm.lm_head(states)  # (..., D) -> (..., Y)


def read_picture(picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
    """Squeeze a picture (H, W, 3) into the square that the image encoder reads."""
    return Picture(normalise(split_tiles(picture, config.tile_size, 1), PIXEL_MEAN, PIXEL_STD), config.tokens_per_tile)


def image_block(num_tokens: int) -> str:
    """Return the prompt text that stands for one picture or frame."""
    return IMAGE_TOKEN * num_tokens


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig, `family` and `sam2` aside, from a published config.json.

    What the file leaves out has the default of the native class, as in the code that wrote it.
    """
    text, vision = official["text_config"], official["vision_config"]
    native = {key: text[key] for key in _TEXT_KEYS if text.get(key) is not None}
    native |= {key: text[key] for key in _TOKEN_KEYS if key in text}
    if official.get("vocab_size"):
        native["vocab_size"] = official["vocab_size"]
    native |= {"model_type": "llama", "rope_parameters": rope_to_native(text), "tie_word_embeddings": False}
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
    """Return the published config.json of a model, its SAM 2 part aside."""
    text, tower = config.mllm["text_config"], config.mllm["vision_config"]
    official = {key: text[key] for key in (*_TEXT_KEYS, *_TOKEN_KEYS) if key in text}
    if "rope_parameters" in text:
        official |= rope_to_official(text["rope_parameters"], kind_key="rope_type")
    return {
        "architectures": ["Sa2VAChatModelLlava"],
        "model_type": "sa2va_chat",
        "auto_map": {
            "AutoConfig": "configuration_sa2va_chat.Sa2VAChatConfigLlava",
            "AutoModel": "modeling_sa2va_chat.Sa2VAChatModelLlava",
            "AutoModelForCausalLM": "modeling_sa2va_chat.Sa2VAChatModelLlava",
        },
        "text_config": {**official, "model_type": "llama", "tie_word_embeddings": False},
        "vision_config": tower,
        "image_token_index": config.mllm["image_token_id"],
        "vision_feature_layer": config.mllm["vision_feature_layer"],
        "vision_feature_select_strategy": config.mllm["vision_feature_select_strategy"],
        "template": config.template,
        "tie_word_embeddings": False,
    }


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return how the published tensors are called natively."""
    return (
        Rule.rename("model.model.vision_tower.vision_model.{rest}", "model.vision_tower.{rest}"),
        Rule.rename("model.model.multi_modal_projector.{rest}", "model.multi_modal_projector.{rest}"),
        Rule.rename("model.model.language_model.{rest}", "model.language_model.{rest}"),
        Rule.rename("model.lm_head.{rest}", "lm_head.{rest}"),
    )
