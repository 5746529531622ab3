"""Drive the Qwen3-VL family.

Flow: picture -> patches -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: Qwen3-VL, arXiv:2511.21631 (DeepStack: deeper layers of the image encoder speak to early text layers); the
    released Sa2VA code under Transformers 4.57, whose last hidden state of this family is the one before the norm.
Shapes: B samples, L tokens, D width, V visual tokens, n image places, Y vocabulary.
"""

from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from sa2va.checkpoints.key_map import Rule
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families import qwen_vl
from sa2va.model.families.protocol import Picture, TextInput, VisualTokens, call_text_model

IMAGE_TOKEN, PICTURE_JOINT, TAKES_REGIONS = qwen_vl.IMAGE_TOKEN, qwen_vl.PICTURE_JOINT, qwen_vl.TAKES_REGIONS
PIXEL_MEAN = PIXEL_STD = (0.5, 0.5, 0.5)

LAYER_NAMES = qwen_vl.LAYER_NAMES

image_block, positions = qwen_vl.image_block, qwen_vl.positions

# What the final norm was given last in this thread. The native model does not return it.
_BEFORE_NORM: ContextVar[Tensor | None] = ContextVar("states before the final norm", default=None)


def _remember(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    _BEFORE_NORM.set(inputs[0])


def build_mllm(config: dict[str, Any]) -> Qwen3VLForConditionalGeneration:
    """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
    mllm = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
    mllm.model.language_model.norm.register_forward_pre_hook(_remember)
    return mllm


def read_picture(picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
    """Prepare a picture (H, W, 3); a frame of a clip is a picture like any other."""
    return qwen_vl.read_picture(picture, config, PIXEL_MEAN, PIXEL_STD)


def language_model(mllm: Qwen3VLForConditionalGeneration) -> nn.Module:
    """Return the text model, without its head."""
    return mllm.model.language_model


def encode_images(mllm: Qwen3VLForConditionalGeneration, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
    """Return the visual tokens (V, D) of all pictures, given their patches and their grids (pictures, 3)."""
    output = mllm.model.visual(pixel_values, grid_thw=grids, return_dict=True)
    return VisualTokens(output.pooler_output, tuple(output.deepstack_features))


def run_text(mllm: Qwen3VLForConditionalGeneration, inputs: TextInput, cache: DynamicCache | None) -> Tensor:
    """Return the states (B, L, D) that [SEG] is read from: before the final norm, unlike all other families."""
    deepstack: dict[str, Any] = {}
    if inputs.deepstack:
        deepstack = {"visual_pos_masks": inputs.visual_places, "deepstack_visual_embeds": list(inputs.deepstack)}
    call_text_model(language_model(mllm), inputs, cache, **deepstack)
    states = _BEFORE_NORM.get()
    _BEFORE_NORM.set(None)
    assert states is not None
    return states


def logits(mllm: Qwen3VLForConditionalGeneration, states: Tensor) -> Tensor:
    normed = mllm.model.language_model.norm.forward(states)  # past the hook, which is not meant here
    return mllm.lm_head(normed)  # (..., D) -> (..., Y)


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig, `family` and `sam2` aside; the file itself has all ids."""
    return qwen_vl.config_from_official(official, chat_template)


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the published config.json of a model, its SAM 2 part aside."""
    return qwen_vl.config_to_official(config, "qwen3_vl")


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return how the published tensors are called natively."""
    return qwen_vl.KEY_RULES
