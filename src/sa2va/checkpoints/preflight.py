"""Check that the parts of a model fit each other, before any weight is read.

Flow: tensor names of the weights -> check_layers; empty model -> rehearse: image encoder and SAM 2 run once on
    the meta device, which computes only shapes.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from sa2va.checkpoints.native import one_line
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.catalog import find_family
from sa2va.model.families.templates import find_template
from sa2va.model.sa2va import Sa2VA

SAM2_LAYER_NAMES = {"memory_attention_num_layers": "memory_attention.layers."}
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")


def check_layers(config: Sa2VAConfig, names: Iterable[str]) -> None:
    """Compare the layer counts of a configuration with the tensors' names.

    Args:
        config: of the model.
        names: of all tensors, as our model calls them.

    Raises:
        ValueError: they differ.
    """
    names = tuple(names)
    wanted = {
        f"mllm.{part}.{field}": (config.mllm[part][field], f"mllm.native.{prefix}")
        for (part, field), prefix in find_family(config.family).layer_names.items()
        if field in (config.mllm.get(part) or {})
    }
    wanted |= {
        f"sam2.{field}": (config.sam2[field], f"sam2.native.{prefix}")
        for field, prefix in SAM2_LAYER_NAMES.items()
        if field in config.sam2
    }
    for field, (number, prefix) in wanted.items():
        found = count_layers(names, prefix)
        if number != found:
            raise ValueError(f"{field} is {number!r:.60}, the weights have {found} layers; take both from one model")


def check_sam2_layers(values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Compare the layer counts of a separate SAM 2 with its tensors' names.

    Raises:
        ValueError: they differ. A part without layers passes here and is reported when the model is loaded.
    """
    names = tuple(names)
    for field, prefix in SAM2_LAYER_NAMES.items():
        found = count_layers(names, prefix)
        if field in values and found and values[field] != found:
            raise ValueError(f"{field} is {values[field]!r:.60}, the weights have {found} layers")


def count_layers(names: Iterable[str], prefix: str) -> int:
    """Count the layers in the names of tensors."""
    return len({match[1] for name in names if (match := re.match(re.escape(prefix) + r"(\d+)\.", name))})


@torch.no_grad()
def rehearse(model: Sa2VA) -> None:
    """Run the image encoder and SAM 2 once on the meta device, to check the shapes.

    Args:
        model: on the meta device.

    Raises:
        ValueError: two values of the configuration contradict each other.
    """
    config = model.config
    find_template(config.template)
    _check_text(model.mllm.native.config.get_text_config())
    takes_any_size = find_family(config.family).takes_any_size
    if takes_any_size != bool(config.max_pixels):
        expected = "more than 0" if takes_any_size else "0, since this family cuts tiles"
        raise ValueError(f"max_pixels is {config.max_pixels}; expected {expected}")
    try:
        _check_patches(model) if takes_any_size else _encode_tile(model)
        side = _decode_mask(model)
    except ValueError:
        raise
    except Exception as error:  # mismatched shapes can raise anything
        kind, reason = type(error).__name__, one_line(error)
        raise ValueError(f"its values contradict each other ({kind}: {reason})") from error
    grid = config.sam2.get("memory_attention_rope_feat_sizes")
    if grid is not None and list(grid) != [side, side]:
        raise ValueError(f"sam2.memory_attention_rope_feat_sizes is {grid}; expected {[side, side]}, the coarsest grid")


def _encode_tile(model: Sa2VA) -> None:
    """Encode one black tile.

    Raises:
        ValueError: number or width of its image tokens differ from the configuration.
    """
    config, family = model.config, find_family(model.config.family)
    picture = np.zeros((config.tile_size, config.tile_size, 3), dtype=np.uint8)
    pixels = family.read_picture(picture, config, is_frame=True).pixel_values.to("meta")
    tokens = family.encode_images(model.mllm.native, pixels, torch.zeros(0, 3)).tokens
    if tokens.shape[0] != config.tokens_per_tile:
        raise ValueError(
            f"tokens_per_tile is {config.tokens_per_tile}; expected {tokens.shape[0]}, as the image encoder makes them"
        )
    if tokens.shape[1] != model.mllm.width:
        raise ValueError(f"visual tokens have width {tokens.shape[1]}; expected {model.mllm.width}")


def _check_patches(model: Sa2VA) -> None:
    """Check the configuration of an encoder for any picture size; it cannot run on the meta device.

    Raises:
        ValueError: its values contradict each other.
    """
    vision, depth = model.mllm.native.config.vision_config, model.mllm.native.config.vision_config.depth
    if vision.hidden_size % (4 * vision.num_heads):
        raise ValueError(f"vision_config: {vision.num_heads} heads do not fit width {vision.hidden_size}")
    for name in ("fullatt_block_indexes", "deepstack_visual_indexes"):
        indexes = getattr(vision, name, None) or ()
        if any(not 0 <= index < depth for index in indexes) or len(set(indexes)) != len(indexes):
            raise ValueError(f"vision_config: {name} is {indexes}; expected different numbers from 0 to {depth - 1}")
    window, token = getattr(vision, "window_size", None), vision.patch_size * vision.spatial_merge_size
    if window is not None and window < token:
        raise ValueError(f"vision_config: window_size is {window}; expected at least {token}, the side of a token")
    places = getattr(vision, "num_position_embeddings", None)
    if places is not None and math.isqrt(places) ** 2 != places:
        raise ValueError(f"vision_config: num_position_embeddings is {places}; expected a square number")
    if vision.out_hidden_size != model.mllm.width:
        raise ValueError(f"vision_config: out_hidden_size is {vision.out_hidden_size}; expected {model.mllm.width}")


def _decode_mask(model: Sa2VA) -> int:
    """Decode one mask on the meta device and return the side of SAM 2's coarsest feature grid."""
    sam2 = model.sam2
    frames = sam2.encode_frames(torch.empty(1, 3, sam2.size, sam2.size, device="meta"))
    states = torch.empty(1, model.mllm.width, device="meta")
    prompt = sam2.language_prompt(model.projector(states), 1)
    output = sam2.decode(sam2.without_memory(frames.embeds), frames.high_res, prompt)
    sam2.upscale(output.candidates[:, 0])
    return frames.embeds.shape[-1]


def _check_text(text: Any) -> None:
    """Check attention heads and rotary embeddings, which no weight shape reveals.

    Raises:
        ValueError: they contradict each other.
    """
    heads = text.num_attention_heads
    groups = getattr(text, "num_key_value_heads", None) or heads
    if heads % groups:
        raise ValueError(f"num_key_value_heads is {groups}; expected a divisor of num_attention_heads, {heads}")
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    if width % 2:
        raise ValueError(f"heads of the language model have {width} numbers; expected an even number")
    rope: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in ROPE_TYPES:
        raise ValueError(f"rope_type is {rope['rope_type']!r:.60}; expected one of {', '.join(ROPE_TYPES)}")
    sections = rope.get("mrope_section")
    if sections is not None and (len(sections) != 3 or sum(sections) != width // 2):
        raise ValueError(f"mrope_section is {sections}; expected three numbers that sum to {width // 2}")
    for name in ("short_factor", "long_factor"):
        if rope.get(name) is not None and len(rope[name]) != width // 2:
            raise ValueError(f"{name} has {len(rope[name])} numbers; expected {width // 2}")
