"""Drive the Qwen2.5-VL family.

Flow: picture -> patches -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: Qwen2.5-VL, arXiv:2502.13923.
Shapes: B samples, L tokens, D width, V visual tokens, Y vocabulary.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from sa2va.checkpoints.key_map import Rule
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families import qwen_vl
from sa2va.model.families.protocol import Picture, TextInput, VisualTokens, call_text_model
from sa2va.model.pixels import CLIP_MEAN, CLIP_STD

IMAGE_TOKEN, PICTURE_JOINT, TAKES_REGIONS = qwen_vl.IMAGE_TOKEN, qwen_vl.PICTURE_JOINT, qwen_vl.TAKES_REGIONS

LAYER_NAMES = qwen_vl.LAYER_NAMES
PIXEL_MEAN, PIXEL_STD = CLIP_MEAN, CLIP_STD

image_block, positions = qwen_vl.image_block, qwen_vl.positions


def build_mllm(config: dict[str, Any]) -> Qwen2_5_VLForConditionalGeneration:
    """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))


def read_picture(picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
    """Prepare a picture (H, W, 3); a frame of a clip is a picture like any other."""
    return qwen_vl.read_picture(picture, config, PIXEL_MEAN, PIXEL_STD)


def language_model(mllm: Qwen2_5_VLForConditionalGeneration) -> nn.Module:
    """Return the text model, without its head."""
    return mllm.model.language_model


def encode_images(mllm: Qwen2_5_VLForConditionalGeneration, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
    """Return the visual tokens (V, D) of all pictures, given their patches and their grids (pictures, 3)."""
    return VisualTokens(mllm.model.visual(pixel_values, grid_thw=grids, return_dict=True).pooler_output)


def run_text(mllm: Qwen2_5_VLForConditionalGeneration, inputs: TextInput, cache: DynamicCache | None) -> Tensor:
    """Return the states (B, L, D) that [SEG] is read from: after the final norm."""
    return call_text_model(language_model(mllm), inputs, cache)


def logits(mllm: Qwen2_5_VLForConditionalGeneration, states: Tensor) -> Tensor:
    return mllm.lm_head(states)  # (..., D) -> (..., Y)


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig, `family` and `sam2` aside; the file itself has all ids."""
    return qwen_vl.config_from_official(official, chat_template)


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the published config.json of a model, its SAM 2 part aside."""
    return qwen_vl.config_to_official(config, "qwen2_5_vl")


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return how the published tensors are called natively."""
    return qwen_vl.KEY_RULES
