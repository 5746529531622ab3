"""Describe the four sizes of SAM 2, from a published config.json or from the tensors of a raw checkpoint.

Flow: sizes -> configuration dictionary for Sa2VAConfig.sam2 <-> the override in a published config.json.
Source: SAM 2, arXiv:2408.00714, and the configuration files of its release; 2.1 adds an occlusion embedding and a
    projection of the temporal encoding of object pointers.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Size

from sa2va.model.sam.sam2 import Sam2

TINY_OVERRIDE = "sam2_tiny_override"  # key in a published config.json for a SAM 2 other than the large one


@dataclass(frozen=True, kw_only=True)
class Sam2Size:
    """Sizes that differ between SAM 2 models; fields are named as under the key `TINY_OVERRIDE`."""

    embed_dim: int
    num_heads: int
    stages: tuple[int, ...]  # blocks per stage
    global_att_blocks: tuple[int, ...]
    window_spec: tuple[int, ...] = (8, 4, 14, 7)  # window side per stage
    bkg: tuple[int, int] = (7, 7)  # grid of the background position embedding
    image_size: int = 1024  # px
    d_model: int = 256
    mem_layers: int = 4
    mem_ff: int = 2048
    mem_out: int = 64


LARGE = Sam2Size(
    embed_dim=144, num_heads=2, stages=(2, 6, 36, 4), global_att_blocks=(23, 33, 43), window_spec=(8, 4, 16, 8)
)
SIZES = {
    "tiny": Sam2Size(embed_dim=96, num_heads=1, stages=(1, 2, 7, 2), global_att_blocks=(5, 7, 9)),
    "small": Sam2Size(embed_dim=96, num_heads=1, stages=(1, 2, 11, 2), global_att_blocks=(7, 10, 13)),
    "base_plus": Sam2Size(
        embed_dim=112, num_heads=2, stages=(2, 3, 16, 3), global_att_blocks=(12, 16, 20), bkg=(14, 14)
    ),
    "large": LARGE,
}


def sam2_config(size: Sam2Size = LARGE, *, version: str = "2.0") -> dict[str, Any]:
    """Return the native configuration of a SAM 2 model; published Sa2VA models contain the large one of 2.0."""
    widths = [size.embed_dim * 2**stage for stage in range(4)]
    grids = [[size.image_size // stride] * 2 for stride in (4, 8, 16)]
    is_newer = version == "2.1"
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": size.embed_dim,
        "num_attention_heads": size.num_heads,
        "image_size": [size.image_size] * 2,
        "blocks_per_stage": list(size.stages),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [size.num_heads * 2**stage for stage in range(4)],
        "window_size_per_stage": list(size.window_spec),
        "global_attention_blocks": list(size.global_att_blocks),
        "window_positional_embedding_background_size": list(size.bkg),
    }
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": grids,
            "fpn_hidden_size": size.d_model,
        },
        "prompt_encoder_config": {"hidden_size": size.d_model, "image_size": size.image_size},
        "mask_decoder_config": {"hidden_size": size.d_model},
        "image_size": size.image_size,
        "enable_occlusion_spatial_embedding": is_newer,
        "enable_temporal_pos_encoding_for_object_pointers": is_newer,
        "memory_attention_hidden_size": size.d_model,
        "memory_attention_num_layers": size.mem_layers,
        "memory_attention_feed_forward_hidden_size": size.mem_ff,
        "memory_attention_rope_feat_sizes": grids[-1],
        "memory_encoder_hidden_size": size.d_model,
        "memory_encoder_output_channels": size.mem_out,
        "mask_downsampler_embed_dim": size.d_model,
        "memory_fuser_embed_dim": size.d_model,
        "memory_fuser_intermediate_dim": 4 * size.d_model,
    }


def config_from_official(official: dict[str, Any]) -> dict[str, Any]:
    """Return the SAM 2 configuration of a published Sa2VA model: the override's, else the large one of 2.0.

    Raises:
        ValueError: the override names unknown or too few sizes.
    """
    override = official.get(TINY_OVERRIDE)
    if override is None:
        return sam2_config()
    try:
        return sam2_config(Sam2Size(**override))
    except TypeError as error:
        raise ValueError(f"config.json: {TINY_OVERRIDE} does not describe a SAM 2 model ({error})") from error


def config_to_official(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a published config.json for a SAM 2 configuration.

    Raises:
        ValueError: the published layout cannot express it, as is the case for SAM 2.1.
    """
    native = Sam2.build_config(config).to_dict()
    backbone = native["vision_config"]["backbone_config"]
    size = Sam2Size(
        embed_dim=backbone["hidden_size"],
        num_heads=backbone["num_attention_heads"],
        stages=tuple(backbone["blocks_per_stage"]),
        global_att_blocks=tuple(backbone["global_attention_blocks"]),
        window_spec=tuple(backbone["window_size_per_stage"]),
        bkg=tuple(backbone["window_positional_embedding_background_size"]),
        image_size=native["image_size"],
        d_model=native["memory_attention_hidden_size"],
        mem_layers=native["memory_attention_num_layers"],
        mem_ff=native["memory_attention_feed_forward_hidden_size"],
        mem_out=native["memory_encoder_output_channels"],
    )
    if not same_config(config, sam2_config(size)):
        raise ValueError("this SAM 2 cannot be written in the published layout, which is made for SAM 2.0 hiera-large")
    if size == LARGE:
        return {}
    return {TINY_OVERRIDE: {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(size).items()}}


# Initialization, dropout and bookkeeping of Transformers: without effect on inference.
NO_MATTER = {
    "initializer_range",
    "memory_attention_dropout",
    "memory_attention_rope_dropout",
    "memory_fuser_layer_scale_init_value",
    "architectures",
    "dtype",
    "transformers_version",
}


def same_config(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two SAM 2 configurations describe the same model, with defaults filled in."""

    def essence(values: Any) -> Any:
        if isinstance(values, dict):
            return {k: essence(v) for k, v in values.items() if k not in NO_MATTER and not k.startswith("_")}
        return values

    first, second = (json.loads(Sam2.build_config(c).to_json_string(use_diff=False)) for c in (one, other))
    return essence(first) == essence(second)


def config_from_shapes(shapes: Mapping[str, Size]) -> dict[str, Any]:
    """Recognize the size and version of a raw SAM 2 checkpoint from the names and shapes of its tensors.

    Raises:
        ValueError: it is no released model.
    """
    first = "image_encoder.trunk.patch_embed.proj.weight"
    if first not in shapes:
        raise ValueError(f"tensor {first} is missing; expected a SAM 2 checkpoint")
    blocks = {name.split(".")[3] for name in shapes if name.startswith("image_encoder.trunk.blocks.")}
    for size in SIZES.values():
        if (shapes[first][0], len(blocks)) == (size.embed_dim, sum(size.stages)):
            return sam2_config(size, version="2.1" if "no_obj_embed_spatial" in shapes else "2.0")
    raise ValueError(
        f"image encoder of width {shapes[first][0]} with {len(blocks)} blocks; expected SAM 2 {', '.join(SIZES)}"
    )
