"""Validate the values of configuration files before a model is built from them.

Flow: json_file.py -> check_values (type and range by field name) -> folder.py, config.py, adapter.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_ITEMS = 4096  # items of a list, or fields of an object
MAX_TEXT = 100_000  # characters


@dataclass(frozen=True)
class Limit:
    """Type and range of one number."""

    low: float
    high: float
    whole: bool = True

    def __contains__(self, value: Any) -> bool:
        kind = int if self.whole else (int, float)
        # NaN is out of every range, since a comparison with it is false.
        return isinstance(value, kind) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.low:.15g} to {self.high:.15g}"


WIDTH, LAYERS, HEADS, SIDE = Limit(1, 2**18), Limit(1, 256), Limit(1, 1024), Limit(1, 4096)
SIDE_OR_NONE, LAYER_INDEX, COUNT, TOKEN_ID = Limit(0, 4096), Limit(-256, 256), Limit(1, 4096), Limit(-1, 2**21 - 1)
LENGTH, GRID = Limit(1, 2**25), Limit(1, 512)
EPSILON, SHARE = Limit(1e-12, 0.1, whole=False), Limit(0, 1, whole=False)
SPREAD, FACTOR, SCORE = Limit(0, 100, whole=False), Limit(1e-6, 1e6, whole=False), Limit(-1e6, 1e6, whole=False)
OTHER = Limit(-(2**53), 2**53, whole=False)

# Limits of numbers by field name, for native, published and SAM 2 configurations. The limits are several times the
# values of published models. Items of a list are checked one by one.
_NAMES: tuple[tuple[Limit, str], ...] = (
    (WIDTH, "hidden_size intermediate_size out_hidden_size projection_dim embed_dim d_model mem_ff mem_out mlp_dim "
    "iou_head_hidden_dim fpn_hidden_size memory_attention_hidden_size memory_attention_feed_forward_hidden_size "
    "memory_attention_mlp_hidden_size memory_encoder_hidden_size memory_encoder_intermediate_dim "
    "memory_encoder_output_channels mask_downsampler_embed_dim memory_fuser_embed_dim memory_fuser_intermediate_dim "
    "backbone_channel_list embed_dim_per_stage head_dim perceiver_resampler_hidden_size"),
    (LAYERS, "num_hidden_layers depth num_layers memory_attention_num_layers mem_layers memory_fuser_num_layers "
    "blocks_per_stage stages iou_head_depth perceiver_resampler_num_layers"),
    (LAYER_INDEX, "global_attention_blocks global_att_blocks global_attn_indexes deepstack_visual_indexes "
    "fullatt_block_indexes vision_feature_layer select_layer fpn_top_down_levels num_query_pool_stages"),
    (HEADS, "num_attention_heads num_heads num_key_value_heads num_attention_heads_per_stage "
    "memory_attention_num_attention_heads perceiver_resampler_num_attention_heads"),
    (SIDE, "image_size force_image_size pretrain_image_size patch_size window_size patch_kernel_size patch_stride "
    "query_stride bkg window_positional_embedding_background_size spatial_merge_size temporal_patch_size "
    "backbone_feature_sizes fpn_kernel_size fpn_stride mask_downsampler_kernel_size mask_downsampler_stride "
    "mask_downsampler_total_stride memory_fuser_kernel_size attention_downsample_rate "
    "memory_attention_downsample_rate"),
    (SIDE_OR_NONE, "window_size_per_stage window_spec patch_padding fpn_padding mask_downsampler_padding "
    "memory_fuser_padding num_labels chunk_size_feed_forward"),
    (GRID, "memory_attention_rope_feat_sizes memory_attention_rope_k_sizes"),
    (COUNT, "num_channels in_channels num_multimask_outputs num_point_embeddings num_maskmem num_feature_levels "
    "mask_input_channels max_object_pointers_in_encoder min_dynamic_patch max_dynamic_patch scale pretraining_tp "
    "perceiver_resampler_num_latents perceiver_resampler_num_latents_2d tokens_per_second num_queries"),
    (Limit(1, 2**20), "num_position_embeddings image_seq_length"),
    (Limit(-1, 4096), "max_cond_frame_num"),
    (Limit(0, 4096), "multimask_min_pt_num multimask_max_pt_num"),
    (Limit(1, 2**21), "vocab_size"),
    (TOKEN_ID, "image_token_id image_token_index video_token_id vision_start_token_id vision_end_token_id bos_token_id "
    "eos_token_id pad_token_id"),
    (LENGTH, "max_position_embeddings original_max_position_embeddings sliding_window"),
    (Limit(0, 2**25), "max_window_layers"),
    (EPSILON, "layer_norm_eps rms_norm_eps"),
    (SHARE, "attention_dropout hidden_dropout hidden_dropout_prob projection_dropout memory_attention_dropout "
    "memory_attention_rope_dropout embd_pdrop resid_pdrop dropout drop_path_rate dynamic_multimask_stability_thresh "
    "dynamic_multimask_stability_delta partial_rotary_factor"),
    (Limit(1 / 64, 1, whole=False), "downsample_ratio"),
    (SPREAD, "initializer_range initializer_factor layer_scale_init_value memory_fuser_layer_scale_init_value"),
    (FACTOR, "factor short_factor long_factor scale_factors mlp_ratio low_freq_factor high_freq_factor "
    "short_mscale long_mscale attention_factor"),
    (Limit(1, 1e12, whole=False), "rope_theta memory_attention_rope_theta"),
    (Limit(0, 4096), "mrope_section"),
    (SCORE, "sigmoid_scale_for_mem_enc sigmoid_bias_for_mem_enc"),
)  # fmt: skip
LIMITS = {name: limit for limit, names in _NAMES for name in names.split()}
FLAGS = frozenset(
    "tie_word_embeddings attention_bias bias qkv_bias qk_normalization use_qk_norm use_sliding_window "
    "mrope_interleaved use_mean_pooling use_absolute_position_embeddings enable_occlusion_spatial_embedding "
    "gate_absent enable_temporal_pos_encoding_for_object_pointers dynamic_image_size use_thumbnail".split()
)
TEXTS = frozenset(
    "template system ps_version model_type hidden_act projector_hidden_act norm_type vision_feature_select_strategy "
    "rope_type type family keyframes question_joint mask_downsampler_hidden_act memory_fuser_hidden_act".split()
)
LISTS = frozenset({"architectures"})
# A published configuration may name built-in kernels of Transformers. They are dropped, as they do not change results.
# Any other name refers to a kernel on a hub, which is code.
IMPLEMENTATION_FIELDS = frozenset(
    "attn_implementation _attn_implementation _attn_implementation_internal "
    "experts_implementation _experts_implementation _experts_implementation_internal".split()
)
BUILT_IN = (
    "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4",
    "batched_mm", "grouped_mm",
)  # fmt: skip
# Refused fields with the reason. They change how a model is built or read.
REFUSED = {
    "per_layer_config": "layers of one model are built alike",
    "quantization_config": "packed weights cannot be read; take the model in full precision",
    "pruned_heads": "layers keep all their heads",
}
_PARTS = re.compile(r"(?:vision|text|llm|backbone|prompt_encoder|mask_decoder)_config|mllm|sam2|sam2_tiny_override")


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Check type and range of every value of a configuration, nested ones included.

    Args:
        values: content of a JSON file.
        where: prefix of error messages, as in "config.json: ".

    Raises:
        ValueError: names the field, its value and the expected range.
    """
    if len(values) > MAX_ITEMS:
        raise ValueError(f"{where}: {len(values)} fields; expected at most {MAX_ITEMS}")
    for name, value in values.items():
        path = f"{where}{name}"
        if name in REFUSED and value not in (None, {}, []):
            raise ValueError(f"{path} is {value!r:.60}; expected none, since {REFUSED[name]}")
        if name in IMPLEMENTATION_FIELDS and value is not None and value not in BUILT_IN:
            known = ", ".join(BUILT_IN)
            raise ValueError(f"{path} is {value!r:.60}; expected one of {known}, since any other name is code on a hub")
        if _PARTS.fullmatch(name) and value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{path} is {value!r:.60}; expected an object")
        if name in LISTS and not isinstance(value, list | None):
            raise ValueError(f"{path} is {value!r:.60}; expected a list")
        if isinstance(value, Mapping):
            check_values(value, f"{path}.")
        elif value is not None:
            _check_value(name, value, path)


def drop_implementations(values: Any) -> Any:
    """Remove the names of attention and expert kernels from a configuration; return a copy."""
    if isinstance(values, Mapping):
        return {k: drop_implementations(v) for k, v in values.items() if k not in IMPLEMENTATION_FIELDS}
    return [drop_implementations(value) for value in values] if isinstance(values, list) else values


def _check_value(name: str, value: Any, path: str) -> None:
    if name in FLAGS or name in TEXTS:
        kind, expected = (bool, "true or false") if name in FLAGS else (str, "a text")
        if not isinstance(value, kind) or (isinstance(value, str) and len(value) > MAX_TEXT):
            raise ValueError(f"{path} is {value!r:.60}; expected {expected}")
        return
    limit = LIMITS.get(name) or (LAYERS if name.endswith("layers") else None)
    if isinstance(value, list | tuple):
        if name == "vocab_size":
            raise ValueError(f"{path} is {value!r:.60}; expected {limit}")
        if len(value) > MAX_ITEMS:
            raise ValueError(f"{path} has {len(value)} items; expected at most {MAX_ITEMS}")
        for number, item in enumerate(value):
            if isinstance(item, Mapping):
                check_values(item, f"{path}[{number}].")
            elif item is not None:
                _check_value(name, item, f"{path}[{number}]")
    elif isinstance(value, str) and limit is None:
        if len(value) > MAX_TEXT:
            raise ValueError(f"{path} has {len(value)} characters; expected at most {MAX_TEXT}")
    elif not (limit is None and isinstance(value, bool)):
        check_number(value, limit or OTHER, path)


def check_number(value: Any, limit: Limit, name: str) -> None:
    """Check one number.

    Raises:
        ValueError: not a number, or out of range.
    """
    if value not in limit:
        raise ValueError(f"{name} is {value!r:.60}; expected {limit}")
