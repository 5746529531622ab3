"""Check that what older libraries left in a published configuration changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.published_folder import KINDS, write_published

from sa2va.checkpoints.folder import load_config, read_config

# What Transformers 4 wrote into every part of a configuration, and the InternVL authors into theirs.
NOISE: dict[str, Any] = {
    "_attn_implementation_autoset": True, "_name_or_path": "", "add_cross_attention": False, "bad_words_ids": None,
    "begin_suppress_tokens": None, "chunk_size_feed_forward": 0, "cross_attention_hidden_size": None,
    "decoder_start_token_id": None, "diversity_penalty": 0.0, "do_sample": False, "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0, "exponential_decay_length_penalty": None, "finetuning_task": None,
    "forced_bos_token_id": None, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "is_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "length_penalty": 1.0, "max_length": 20, "min_length": 0,
    "no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1,
    "output_attentions": False, "output_hidden_states": False, "prefix": None, "problem_type": None,
    "pruned_heads": {}, "repetition_penalty": 1.0, "return_dict": True, "sep_token_id": None,
    "suppress_tokens": None, "task_specific_params": None, "temperature": 1.0, "tf_legacy_loss": False,
    "tie_encoder_decoder": False, "tokenizer_class": None, "top_k": 50, "top_p": 1.0, "torch_dtype": "bfloat16",
    "torchscript": False, "transformers_version": "4.49.0", "typical_p": 1.0, "use_bfloat16": True, "use_cache": False,
    "capacity_factor": 1.2, "drop_path_rate": 0.1, "dropout": 0.0, "initializer_factor": 0.1,
    "laux_allreduce": "all_nodes", "moe_coeff_ratio": 0.5, "moe_output_scale": 4.0, "num_experts": 8,
    "num_routed_experts": 4, "use_flash_attn": True, "use_moe": False, "use_rts": False,
}  # fmt: skip


def write_changed(folder: Path, kind: str, part: str, more: dict[str, Any]) -> Path:
    """Write a published folder with further values in one part of its config.json; "" is the whole."""
    write_published(folder, kind)
    values = json.loads((folder / "config.json").read_text())
    target = values[part] if part else values
    target |= {key: value for key, value in more.items() if key not in target}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("field", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", [None, "eager", "sdpa", "flash_attention_2", "grouped_mm"])
@pytest.mark.parametrize(
    ("kind", "part"), [("internvl_internlm2", "llm_config"), ("qwen3_vl", "text_config"), ("llava", "")]
)
def test_functions_of_the_library_are_dropped(
    tmp_path: Path, field: str, value: str | None, kind: str, part: str
) -> None:
    """Published configurations name the attention that they were trained with; it changes no result."""
    write_published(tmp_path / "plain", kind)
    folder = write_changed(tmp_path / "copy", kind, part, {field: value})
    assert load_config(folder) == load_config(tmp_path / "plain")
    assert f'"{field}"' not in json.dumps(read_config(folder))


@pytest.mark.parametrize("part", ["", "vision_config", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_no_model_reads_are_passed_over(tmp_path: Path, kind: str, part: str) -> None:
    write_published(tmp_path / "plain", kind)
    if part == "text":
        part = "llm_config" if kind.startswith("internvl") else "text_config"
    folder = write_changed(tmp_path / "copy", kind, part, NOISE)
    assert load_config(folder) == load_config(tmp_path / "plain")


def test_our_own_layout_may_not_choose_the_attention(tmp_path: Path) -> None:
    write_published(tmp_path, "internvl_qwen2")
    values = load_config(tmp_path).to_dict()
    plain = json.dumps(values)
    values["mllm"]["text_config"]["attn_implementation"] = "flash_attention_2"
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert json.dumps(load_config(tmp_path).to_dict()) == plain
