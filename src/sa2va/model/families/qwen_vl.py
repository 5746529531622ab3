"""Share what Qwen2.5-VL and Qwen3-VL have in common: pixels of any size, positions in three directions, layout.

Flow: picture -> two resizes -> patches -> Picture; both family files build on these functions.
Source: Qwen2.5-VL, arXiv:2502.13923 (native resolution, M-RoPE); the released Sa2VA inference code, which resizes
    with qwen-vl-utils first and with the stock processor again.
Shapes: H W picture, p patch side in px, m patches that are merged into a token along each side, B samples, L tokens.
"""

import math
import re
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.rope import rope_to_native, rope_to_official
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.protocol import Picture, to_channels_first

IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
PICTURE_JOINT = ""  # between the pictures of a prompt
# The published Qwen models were never shown a marked region; their code takes one and ignores it without a word.
TAKES_REGIONS = False
LAYER_NAMES = {
    ("text_config", "num_hidden_layers"): "model.language_model.layers.",
    ("vision_config", "depth"): "model.visual.blocks.",
}

MIN_PIXELS, MAX_PIXELS = 512 * 28 * 28, 2048 * 28 * 28  # of the second resize
MAX_ASPECT = 200  # longer side over shorter side
_FIRST_GRID = 28  # px; the first resize rounds to it, whatever the model's own patches are
_FIRST_MIN_PIXELS, _FIRST_MAX_PIXELS = 4 * 28 * 28, 16384 * 28 * 28

_TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "initializer_range",
    "attention_bias", "use_sliding_window", "sliding_window", "max_window_layers",
)  # fmt: skip
_TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")
_VISION_KEYS = (
    "depth", "hidden_size", "hidden_act", "intermediate_size", "num_heads", "in_channels", "patch_size",
    "spatial_merge_size", "temporal_patch_size", "out_hidden_size", "initializer_range", "tokens_per_second",
    "window_size", "fullatt_block_indexes", "num_position_embeddings", "deepstack_visual_indexes",
)  # fmt: skip
_MARK_KEYS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


# ---- pixels and text


def fit_size(height: int, width: int, grid: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return the height and width nearest to a picture's that are multiples of `grid` and within the bounds, px."""
    rows, columns = max(1, round(height / grid)), max(1, round(width / grid))
    if rows * columns * grid**2 > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / grid)) for side in (height, width))
    elif rows * columns * grid**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / grid) for side in (height, width))
    return rows * grid, columns * grid


def resize_twice(picture: NDArray[np.uint8], grid: int, min_pixels: int, max_pixels: int) -> Tensor:
    """Resize (H, W, 3) as the released code does: uint8 (3, h, w), both sides multiples of `grid`.

    The first resize is PIL's; the second is torch's on uint8, whose last bits differ from PIL's.

    Raises:
        ValueError: one side is far longer than the other.
    """
    height, width = picture.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"a picture of {width} x {height} px is too narrow; crop it to at most {MAX_ASPECT} : 1")
    height, width = fit_size(height, width, _FIRST_GRID, _FIRST_MIN_PIXELS, _FIRST_MAX_PIXELS)
    first = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    size = fit_size(height, width, grid, min_pixels, max_pixels)
    return F.interpolate(to_channels_first(first)[None], size, mode="bicubic", antialias=True)[0]


def split_patches(pixels: Tensor, patch: int, merge: int, repeats: int) -> Tensor:
    """Cut (3, h, w) into patches, those that become one token together: (patches, 3 * repeats * p * p).

    Args:
        pixels: both sides multiples of patch * merge.
        patch: p, px.
        merge: m.
        repeats: how often a still picture is repeated along time.
    """
    rows, columns = (side // (patch * merge) for side in pixels.shape[1:])
    cut = pixels.reshape(3, rows, merge, patch, columns, merge, patch)
    cut = cut.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]  # (rows, columns, m, m, 3, 1, p, p)
    return cut.expand(-1, -1, -1, -1, -1, repeats, -1, -1).reshape(rows * columns * merge**2, -1)


def read_picture(
    picture: NDArray[np.uint8], config: Sa2VAConfig, mean: tuple[float, ...], std: tuple[float, ...]
) -> Picture:
    """Prepare a picture (H, W, 3); a frame of a clip is a picture like any other."""
    vision = config.mllm["vision_config"]
    patch, merge = vision["patch_size"], vision["spatial_merge_size"]
    pixels = resize_twice(picture, patch * merge, config.min_pixels, config.max_pixels).float()
    # Scaled mean and deviation instead of scaled pixels, as in the stock processor, for the same last bits.
    shift, scale = (pixels.new_tensor(values)[:, None, None] * 255 for values in (mean, std))
    patches = split_patches((pixels - shift) / scale, patch, merge, vision["temporal_patch_size"])
    rows, columns = (side // patch for side in pixels.shape[1:])
    return Picture(patches, rows * columns // merge**2, (1, rows, columns))


def image_block(num_tokens: int) -> str:
    """Return the prompt text that stands for one picture or frame."""
    return IMAGE_START + IMAGE_TOKEN * num_tokens + IMAGE_END


def positions(mllm: Any, input_ids: Tensor, attention_mask: Tensor, grids: Tensor) -> Tensor:
    """Place text along time and visual tokens along time, rows and columns: (3, B, L)."""
    is_image = input_ids.eq(mllm.config.image_token_id).int()
    places, _ = mllm.model.get_rope_index(
        input_ids, mm_token_type_ids=is_image, image_grid_thw=grids, attention_mask=attention_mask
    )
    return places


# ---- the published layout


def find_system_turn(chat_template: str) -> str:
    """Return what a published chat template says before all else where nobody gives a system turn.

    The one of Qwen2.5-VL does so, that of Qwen3-VL does not. The template is searched, never run.
    """
    found = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>", chat_template)
    return found.group(1) if found else ""


def config_from_official(official: dict[str, Any], chat_template: str) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig, `family` and `sam2` aside, from a published config.json."""
    text, vision = official.get("text_config") or official, official["vision_config"]
    native = {key: text[key] for key in _TEXT_KEYS if text.get(key) is not None}
    native |= {key: text[key] for key in _TOKEN_KEYS if key in text}
    # Written out, because the default base of the native class is not the one of the checkpoints.
    native |= {"rope_parameters": rope_to_native(text), "tie_word_embeddings": False}
    return {
        "mllm": {
            "text_config": native,
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


def config_to_official(config: Sa2VAConfig, model_type: str) -> dict[str, Any]:
    """Return the published config.json of a model, its SAM 2 part aside."""
    text, vision = config.mllm["text_config"], config.mllm["vision_config"]
    official = {key: text[key] for key in (*_TEXT_KEYS, *_TOKEN_KEYS) if key in text}
    if "rope_parameters" in text:
        official |= rope_to_official(text["rope_parameters"], kind_key="rope_type")
    return {
        "architectures": ["Sa2VAChatModelQwen"],
        "model_type": "sa2va_chat",
        "auto_map": {
            "AutoConfig": "configuration_sa2va_chat.Sa2VAChatConfigQwen",
            "AutoModel": "modeling_sa2va_qwen.Sa2VAChatModelQwen",
            "AutoModelForCausalLM": "modeling_sa2va_qwen.Sa2VAChatModelQwen",
        },
        "text_config": {**official, "model_type": f"{model_type}_text", "tie_word_embeddings": False},
        "vision_config": {**vision, "model_type": model_type},
        **{key: config.mllm[key] for key in _MARK_KEYS if key in config.mllm},
        "template": config.template,
        "tie_word_embeddings": False,
    }


# A published tensor is the native one inside a module called "model". Transformers before 4.52 had text layers
# and image encoder elsewhere; the first rule that fits counts, so files are written in the newer way.
KEY_RULES = (
    Rule.rename("model.model.visual.{rest}", "model.visual.{rest}"),
    Rule.rename("model.model.language_model.{rest}", "model.language_model.{rest}"),
    Rule.rename("model.lm_head.{rest}", "lm_head.{rest}"),
    Rule.rename("model.visual.{rest}", "model.visual.{rest}"),
    Rule.rename("model.model.{rest}", "model.language_model.{rest}"),
)
