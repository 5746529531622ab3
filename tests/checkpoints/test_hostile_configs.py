"""Check that a model folder with wrong values is refused in one line, at once and without memory."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.hostile_folder import copy_changed, refuse
from support.published_folder import KINDS, write_published

from sa2va.checkpoints.folder import open_checkpoint
from sa2va.files.json_file import MAX_DEPTH, read_json

HUGE = 10**9
TEXT, VISION = "mllm.text_config.", "mllm.vision_config."
HIERA = "sam2.vision_config.backbone_config."


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    for kind in KINDS:
        write_published(root / kind, kind)
    return {kind: root / kind for kind in KINDS}


OURS: list[tuple[str, Any, str]] = [
    (TEXT + "num_hidden_layers", HUGE, "text_config.num_hidden_layers is 1000000000; expected a whole number from 1"),
    (TEXT + "num_hidden_layers", -1, "num_hidden_layers is -1; expected"),
    (TEXT + "num_hidden_layers", "two", "num_hidden_layers is 'two'; expected"),
    (TEXT + "num_hidden_layers", 2.0, "num_hidden_layers is 2.0; expected"),
    (TEXT + "num_hidden_layers", True, "num_hidden_layers is True; expected"),
    (TEXT + "num_hidden_layers", 7, "num_hidden_layers is 7, the weights have 2 layers"),
    (TEXT + "num_hidden_layers", [2], "num_hidden_layers is [2], the weights have 2 layers"),
    (TEXT + "hidden_size", HUGE, "hidden_size is 1000000000; expected"),
    (TEXT + "hidden_size", 68, "has shape"),
    (TEXT + "hidden_size", 0, "hidden_size is 0; expected"),
    (TEXT + "intermediate_size", HUGE, "intermediate_size is 1000000000; expected"),
    (TEXT + "vocab_size", HUGE, "vocab_size is 1000000000; expected"),
    (TEXT + "vocab_size", 100_000, "has shape"),
    (TEXT + "vocab_size", [], "vocab_size is []; expected"),
    (TEXT + "num_attention_heads", 3, "has shape (32,), expected (42,)"),
    (TEXT + "num_key_value_heads", 3, "has shape (32,), expected (48,)"),
    (TEXT + "max_position_embeddings", 10**12, "max_position_embeddings is 1000000000000; expected"),
    (TEXT + "rms_norm_eps", -1.0, "rms_norm_eps is -1.0; expected"),
    (TEXT + "hidden_act", "explode", "does not describe a model"),
    (TEXT + "pad_token_id", HUGE, "pad_token_id is 1000000000; expected"),
    (TEXT + "num_labels", HUGE, "num_labels is 1000000000; expected"),
    (
        TEXT + "attn_implementation",
        "lab/kernels",
        "attn_implementation is 'lab/kernels'; expected one of eager, sdpa, ",
    ),
    (
        TEXT + "_attn_implementation",
        "paged|lab/kernels:f",
        "_attn_implementation is 'paged|lab/kernels:f'; expected one",
    ),
    (TEXT + "_attn_implementation_internal", "lab/k@v1", "_attn_implementation_internal is 'lab/k@v1'; expected one"),
    (TEXT + "attn_implementation", {"": "lab/kernels"}, "attn_implementation is {'': 'lab/kernels'}; expected one"),
    ("mllm.experts_implementation", "deepgemm", "experts_implementation is 'deepgemm'; expected one"),
    (
        VISION + "pruned_heads",
        {"0": [1]},
        "pruned_heads is {'0': [1]}; expected none, since layers keep all their heads",
    ),
    ("mllm.per_layer_config", {"0": {}}, "per_layer_config is {'0': {}}; expected none"),
    (TEXT + "rope_parameters", {"rope_type": "linear", "factor": 1e300}, "factor is 1e+300; expected"),
    (TEXT + "rope_parameters", {"rope_type": "spiral", "rope_theta": 1e4}, "config.json"),
    (VISION + "num_hidden_layers", HUGE, "vision_config.num_hidden_layers is 1000000000; expected"),
    (VISION + "num_hidden_layers", 3, "num_hidden_layers is 3, the weights have 2 layers"),
    (VISION + "image_size", HUGE, "image_size is 1000000000; expected"),
    (VISION + "image_size", 128, "has shape (1, 65, 48), expected (1, 257, 48)"),
    (VISION + "patch_size", 0, "patch_size is 0; expected"),
    (VISION + "attention_bias", "yes", "attention_bias is 'yes'; expected true or false"),
    ("mllm.downsample_ratio", 0, "downsample_ratio is 0; expected"),
    ("mllm.downsample_ratio", 0.25, "has shape (192,), expected (768,)"),
    ("mllm.vision_feature_layer", HUGE, "vision_feature_layer is 1000000000; expected"),
    ("mllm.image_token_id", 10**7, "image_token_id is 10000000; expected"),
    (
        "mllm.quantization_config",
        {"quant_method": "x"},
        "quantization_config is {'quant_method': 'x'}; expected none, since packed weights cannot be read",
    ),
    ("mllm", [], "mllm is []; expected an object"),
    ("sam2", 5, "sam2 is 5; expected an object"),
    ("sam2.image_size", HUGE, "image_size is 1000000000; expected"),
    ("sam2.memory_attention_num_layers", HUGE, "memory_attention_num_layers is 1000000000; expected"),
    ("sam2.memory_attention_num_layers", 200, "memory_attention_num_layers is 200, the weights have 2 layers"),
    ("sam2.memory_attention_rope_feat_sizes", [100_000, 100_000], "memory_attention_rope_feat_sizes[0] is 100000"),
    ("sam2.memory_attention_rope_feat_sizes", [500, 500], "memory_attention_rope_feat_sizes is [500, 500]; expected"),
    ("sam2.memory_attention_dropout", 7, "memory_attention_dropout is 7; expected"),
    ("sam2.model_type", "sam9", "model_type 'sam9' of sam2 is unknown"),
    (HIERA + "blocks_per_stage", [HUGE, 1, 1, 1], "blocks_per_stage[0] is 1000000000; expected"),
    (HIERA + "blocks_per_stage", [1] * 5000, "blocks_per_stage has 5000 items; expected at most"),
    (HIERA + "window_size_per_stage", [-1, 4, 8, 4], "window_size_per_stage[0] is -1; expected"),
    ("tokens_per_tile", HUGE, "tokens_per_tile is 1000000000; expected"),
    ("tokens_per_tile", 17, "tokens_per_tile is 17; expected 16"),
    ("tokens_per_tile", None, "tokens_per_tile is None; expected"),
    ("tile_size", 10**6, "tile_size is 1000000; expected"),
    ("tile_size", -64, "tile_size is -64; expected"),
    ("max_tiles", HUGE, "max_tiles is 1000000000; expected a whole number from 1 to 64"),
    ("max_tiles", 0, "max_tiles is 0; expected"),
    ("num_keyframes", HUGE, "num_keyframes is 1000000000; expected"),
    ("num_keyframes", -3, "num_keyframes is -3; expected"),
    ("num_keyframes", "4", "num_keyframes is '4'; expected"),
    ("num_keyframes", 4.5, "num_keyframes is 4.5; expected"),
    ("max_pixels", 10**15, "max_pixels is 1000000000000000; expected"),
    ("max_pixels", 10_000, "max_pixels is 10000; expected 0, since this family cuts tiles"),
    ("min_pixels", 5, "min_pixels is 5; expected at most max_pixels, 0"),
    ("sure_keyframes", 1.5, "sure_keyframes is 1.5; expected"),
    ("gate_absent", "no", "gate_absent is 'no'; expected true or false"),
    ("template", 5, "template is 5; expected a text"),
    ("template", "no_chat", "no_chat"),
    ("system", "s" * 10**6, "expected a text"),
    ("family", ["internvl"], "family is ['internvl']; expected a text"),
    ("family", "parrot", "unknown model family 'parrot'"),
    ("architectures", 5, "architectures is 5; expected a list"),
    ("surprise", 1, "unknown keys ['surprise']"),
]


@pytest.mark.parametrize(("path", "value", "message"), OURS, ids=[f"{p}={str(v)[:20]}" for p, v, _ in OURS])
def test_a_wrong_value_in_our_layout_is_one_line(
    native_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, value: Any, message: str
) -> None:
    said = refuse(copy_changed(native_folder, tmp_path / "copy", "config.json", path, value), capsys)
    assert message in said


INTERNVL, QWEN2_5, QWEN3, LLAVA = "internvl_qwen2", "qwen2_5_vl", "qwen3_vl", "llava"
PUBLISHED: list[tuple[str, str, Any, str]] = [
    (INTERNVL, "llm_config.num_hidden_layers", HUGE, "llm_config.num_hidden_layers is 1000000000; expected"),
    (INTERNVL, "llm_config.num_hidden_layers", 9, "num_hidden_layers is 9, the weights have 2 layers"),
    (INTERNVL, "llm_config", "x", "llm_config is 'x'; expected an object"),
    (INTERNVL, "vision_config.num_hidden_layers", 10**7, "vision_config.num_hidden_layers is 10000000; expected"),
    (INTERNVL, "force_image_size", HUGE, "force_image_size is 1000000000; expected"),
    (INTERNVL, "downsample_ratio", -1, "downsample_ratio is -1; expected"),
    (INTERNVL, "template", 7, "template is 7; expected a text"),
    (INTERNVL, "select_layer", HUGE, "select_layer is 1000000000; expected"),
    (INTERNVL, "llm_config.architectures", 1, "llm_config.architectures is 1; expected a list"),
    ("internvl_internlm2", "llm_config.num_key_value_heads", 3, "wrong or mixed files"),
    ("internvl_internlm2", "llm_config.rope_scaling", {"type": "dynamic", "factor": -2}, "factor is -2; expected"),
    ("internvl_phi3", "llm_config.rope_scaling.short_factor", [1.0] * 5000, "short_factor has 5000 items"),
    ("internvl_phi3", "llm_config.rope_scaling.short_factor", [1.0], "short_factor field must have length 4, got 1"),
    (QWEN2_5, "text_config.num_hidden_layers", HUGE, "num_hidden_layers is 1000000000; expected"),
    (QWEN2_5, "vision_config.depth", HUGE, "vision_config.depth is 1000000000; expected"),
    (QWEN2_5, "vision_config.depth", 5, "vision_config.depth is 5, the weights have 2 layers"),
    (QWEN2_5, "vision_config.window_size", 1, "window_size is 1; expected at least 28"),
    (QWEN2_5, "vision_config.fullatt_block_indexes", [9], "fullatt_block_indexes is [9]; expected"),
    (QWEN2_5, "vision_config.num_heads", 3, "config.json"),
    (QWEN2_5, "text_config.rope_scaling.mrope_section", [HUGE, 1, 1], "mrope_section[0] is 1000000000; expected"),
    (QWEN2_5, "text_config.rope_scaling.mrope_section", [3, 1, 1], "mrope_section is [3, 1, 1]; expected"),
    (QWEN3, "text_config.head_dim", HUGE, "head_dim is 1000000000; expected"),
    (QWEN3, "vision_config.deepstack_visual_indexes", [0, 0], "visual.deepstack_merger_list.1."),
    (QWEN3, "vision_config.deepstack_visual_indexes", [HUGE], "deepstack_visual_indexes[0] is 1000000000"),
    (QWEN3, "vision_config.num_position_embeddings", 2**40, "num_position_embeddings is 1099511627776; expected"),
    (LLAVA, "vision_config.num_hidden_layers", HUGE, "vision_config.num_hidden_layers is 1000000000; expected"),
    (LLAVA, "vision_config.image_size", "28", "image_size is '28'; expected"),
    (LLAVA, "vision_config.image_size", HUGE, "image_size is 1000000000; expected"),
    (LLAVA, "vision_feature_select_strategy", "all", "config.json"),
    (LLAVA, "vision_feature_layer", 40, "config.json"),
    (INTERNVL, "sam2_tiny_override.stages", [1, HUGE], "stages[1] is 1000000000; expected"),
    (INTERNVL, "sam2_tiny_override.mem_layers", HUGE, "mem_layers is 1000000000; expected"),
    (INTERNVL, "sam2_tiny_override.image_size", "64", "image_size is '64'; expected"),
    (INTERNVL, "sam2_tiny_override", [], "sam2_tiny_override is []; expected an object"),
]


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"), PUBLISHED, ids=[f"{k}-{p}={str(v)[:20]}" for k, p, v, _ in PUBLISHED]
)
def test_a_wrong_value_in_the_published_layout_is_one_line(
    published: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    path: str,
    value: Any,
    message: str,
) -> None:
    assert message in refuse(copy_changed(published[kind], tmp_path / "copy", "config.json", path, value), capsys)


def test_folders_as_they_are_still_open(native_folder: Path, published: dict[str, Path]) -> None:
    assert open_checkpoint(native_folder).config.tokens_per_tile == 16
    families = {kind: open_checkpoint(folder).config.family for kind, folder in published.items()}
    assert sorted(set(families.values())) == ["internvl", "llava", "qwen2_5_vl", "qwen3_vl"]


# ---- the files themselves


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "\\ud800"}', "is not a text file"),
        (nested(100_000), f"is nested more than {MAX_DEPTH} deep"),
        ('{"a": ' + "[" * 100_000, f"is nested more than {MAX_DEPTH} deep"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": 1e999}', "inf is not a number"),
        ('{"a": ' + "9" * 5_000 + "}", "restore it from the source"),
        ("[]", "holds a list; expected a JSON object"),
        (" " * (5 * 2**20), "more than the 4194304 allowed"),
    ],
    ids=["surrogate", "deep", "open", "nan", "infinite", "long number", "list", "large"],
)
def test_json_that_is_none_is_one_line(
    native_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    folder = Path(shutil.copytree(native_folder, tmp_path / "copy"))
    (folder / "config.json").write_text(text)
    assert message in refuse(folder, capsys)


def test_json_within_the_limits_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(nested(MAX_DEPTH))
    assert json.dumps(read_json(path), separators=(",", ":")) == nested(MAX_DEPTH)
    path.write_text(nested(MAX_DEPTH + 1))
    with pytest.raises(ValueError, match=f"is nested more than {MAX_DEPTH} deep"):
        read_json(path)


def test_a_weight_index_that_is_nested_is_one_line(
    native_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(native_folder, tmp_path / "copy"))
    (folder / "model.safetensors.index.json").write_text(nested(100_000))
    assert "is nested more than" in refuse(folder, capsys)
