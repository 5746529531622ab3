"""Estimate a model's memory from its configuration, and the device that it fits.

Flow: Sa2VAConfig -> model on the meta device -> measure -> Size -> memory_need(size, choice) -> Need; with
    device.list_places() -> find_place.
Source: bytes of a packed weight from bitsandbytes' formats; QLoRA, arXiv:2305.14314, section 3, for 4 bits.
Shapes: D width, I inner width of an MLP, C width of SAM 2's features, S side of its input in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from sa2va.checkpoints.device import GIB, Place, frames_at_once
from sa2va.checkpoints.folder import build_empty
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.base import squares_at_once
from sa2va.model.families.catalog import find_family

TEXT_TOKENS = 1_000  # text of a conversation, in addition to image tokens
# 4 bits per weight, 1 byte of scale per 64 weights, 4 bytes per 256 of those scales.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True)
class Choice:
    """One precision of a model, as arguments of `sa2va.load`, with the bytes of one weight."""

    dtype: str
    quantize: str | None
    language: float  # linear weights of the language model
    vision: float  # linear weights of the vision tower
    rest: float  # all other weights, KV cache and activations


CHOICES = {
    "float32": Choice("float32", None, 4, 4, 4),
    "bfloat16": Choice("bfloat16", None, 2, 2, 2),
    "int8": Choice("bfloat16", "int8", 1, 1, 2),
    "int4": Choice("bfloat16", "int4", NF4_BYTES, 1, 2),
}


@dataclass(frozen=True)
class Size:
    """Parameter counts by part, and sizes of KV cache and activations."""

    vision_linear: int  # weights that quantize.py quantizes
    vision_other: int  # norms, embeddings and the temporal encoder
    language_linear: int
    language_other: int  # embeddings, norms and the output layer
    sam2: int  # with the [SEG] projector
    cache_per_token: int  # values of one token in the KV cache
    picture_tokens: int  # maximum number of image tokens of one picture
    working: int  # peak number of activations for one picture, or for the key frames of a clip

    @property
    def parameters(self) -> int:
        return self.vision_linear + self.vision_other + self.language_linear + self.language_other + self.sam2


@dataclass(frozen=True)
class Need:
    """Memory of a model by part, in bytes."""

    vision: int
    language: int
    sam2: int
    cache: int  # KV cache of one picture and TEXT_TOKENS tokens of text
    working: int

    @property
    def weights(self) -> int:
        return self.vision + self.language + self.sam2

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.working


def measure(config: Sa2VAConfig, device: torch.device) -> Size:
    """Count parameters, KV cache values and activations of a model.

    Args:
        config: of the model, which is built on the meta device.
        device: where it would run; a CPU takes fewer tiles and frames at once.
    """
    model = build_empty(config)
    native = model.mllm.native
    language = find_family(config.family).language_model(native)
    output = native.get_output_embeddings()
    linear = {id(m.weight): m.weight.numel() for m in native.modules() if type(m) is nn.Linear and m is not output}
    of_language = {id(p): p.numel() for module in (language, output) for p in module.parameters()}
    of_vision = {id(p): p.numel() for p in model.mllm.parameters() if id(p) not in of_language}
    text = native.config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    language_linear = sum(number for key, number in linear.items() if key in of_language)
    vision_linear = sum(number for key, number in linear.items() if key in of_vision)
    return Size(
        vision_linear=vision_linear,
        vision_other=sum(of_vision.values()) - vision_linear,
        language_linear=language_linear,
        language_other=sum(of_language.values()) - language_linear,
        sam2=sum(p.numel() for part in (model.sam2, model.projector) for p in part.parameters()),
        cache_per_token=2 * text.num_hidden_layers * text.num_key_value_heads * head_dim,
        picture_tokens=count_picture_tokens(config),
        working=max(count_working(config, native.config, device), count_keyframes(config, model.sam2.width, device)),
    )


def count_tiles(config: Sa2VAConfig) -> int:
    """Return the largest number of tiles of one picture, its thumbnail included."""
    return config.max_tiles + (config.max_tiles > 1)


def count_patches(config: Sa2VAConfig, patch: int | Sequence[int], device: torch.device) -> int:
    """Return the largest number of patches that are encoded at once; `patch` is the side of a patch in px."""
    patch = patch if isinstance(patch, int) else patch[0]
    if config.max_pixels:
        return config.max_pixels // patch**2
    side = config.tile_size // patch
    number = min(count_tiles(config), squares_at_once(device, config.tile_size, config.tile_size))
    return number * (side * side + 1)  # plus the class token


def count_picture_tokens(config: Sa2VAConfig) -> int:
    """Return the largest number of image tokens of one picture."""
    if not config.max_pixels:
        return count_tiles(config) * config.tokens_per_tile
    vision = config.mllm["vision_config"]
    return config.max_pixels // (vision["patch_size"] * vision["spatial_merge_size"]) ** 2


def count_working(config: Sa2VAConfig, native: Any, device: torch.device) -> int:
    """Estimate the MLLM's peak number of activations: the maximum over two stages, which run one after the other.

    Each is the peak within one layer, measured on layers of the released sizes: 5 D + 2 I per patch in the vision
    tower, 3 D + 3 I per token in the language model.

    Args:
        config: of the whole model.
        native: configuration of the native MLLM.
        device: where it would run.
    """
    vision, text = native.vision_config, native.get_text_config()
    tokens = count_picture_tokens(config) + TEXT_TOKENS
    return max(
        count_patches(config, vision.patch_size, device) * (5 * vision.hidden_size + 2 * vision.intermediate_size),
        tokens * (3 * text.hidden_size + 3 * text.intermediate_size),
    )


def count_keyframes(config: Sa2VAConfig, width: int, device: torch.device) -> int:
    """Estimate SAM 2's peak number of activations: its encoder's for the frames at once, and all features.

    The encoder holds 13 D numbers per cell of the (S/4)^2 grid in its first stage. A CPU takes it in parts and
    holds 4.25 D, most of them feature maps. The features of a frame are C, C/4 and C/8 channels on grids of side S/16,
    S/8 and S/4.

    Args:
        config: of the whole model.
        width: C.
        device: where it would run.
    """
    side, backbone = config.sam2["image_size"], config.sam2["vision_config"]["backbone_config"]
    per_cell = 4.25 if device.type == "cpu" else 13
    encoder = round(per_cell * backbone["hidden_size"] * (side // 4) ** 2)
    features = 4 * width * (side // 16) ** 2
    return frames_at_once(device) * encoder + config.num_keyframes * features


def memory_need(size: Size, choice: Choice) -> Need:
    """Return the bytes that a model of this size takes in this precision."""
    tokens = size.picture_tokens + TEXT_TOKENS
    return Need(
        vision=round(size.vision_linear * choice.vision + size.vision_other * choice.rest),
        language=round(size.language_linear * choice.language + size.language_other * choice.rest),
        sam2=round(size.sam2 * choice.rest),
        cache=round(tokens * size.cache_per_token * choice.rest),
        working=round(size.working * choice.rest),
    )


def find_place(need: Need, choice: Choice, places: Sequence[Place]) -> str | None:
    """Return the device that a model fits on ("cuda" = all GPUs and RAM together), or None if it fits nowhere.

    Quantized weights stay on one device, and do not run on MPS.
    """
    gpus = [place for place in places if place.device.startswith("cuda")]
    others = [place for place in places if place not in gpus and not (choice.quantize and place.device == "mps")]
    for place in gpus:
        if place.usable >= need.total:
            return place.device
    if gpus and not choice.quantize and sum(place.usable for place in places) >= need.total:
        return "cuda"
    return next((place.device for place in others if place.usable >= need.total), None)


def to_gib(number: Need) -> dict[str, float]:
    """Return the parts of a need and their sum in GiB."""
    parts = {field.name: getattr(number, field.name) for field in fields(number)} | {"total": number.total}
    return {name: round(value / GIB, 3) for name, value in parts.items()}
