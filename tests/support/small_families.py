"""Build a very small model of every published family, from a config.json as that family would have it."""

import copy
from functools import cache
from typing import Any

import torch
from support.small_model import build_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sa2va.checkpoints.published.layout import LAYOUTS
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families import internvl, qwen_vl
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import ADDED_TOKENS

MARKS = ("</s>", "<image>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>")
QWEN_MARKS = (qwen_vl.IMAGE_START, qwen_vl.IMAGE_END, qwen_vl.IMAGE_TOKEN, "<|video_pad|>")


@cache
def build_tokenizer(*lacking: str) -> PreTrainedTokenizerFast:
    """Bytes, and every token that any family needs, some aside."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    special = [*MARKS, *QWEN_MARKS, *internvl.BASE_TOKENS, *ADDED_TOKENS]
    wanted = [token for token in special if token not in lacking]
    tokenizer.add_special_tokens({"additional_special_tokens": wanted})
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    return tokenizer


def _text(**more: Any) -> dict[str, Any]:
    ids = {f"{name}_token_id": None for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    limits = {"vocab_size": len(build_tokenizer()), "num_key_value_heads": 2, "max_position_embeddings": 512}
    kind = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "initializer_range": 0.2}
    return ids | sizes | limits | kind | {"rope_scaling": None} | more


def _internvl(architecture: str, template: str = "qwen_chat", giant: bool = False, **text: Any) -> dict[str, Any]:
    vision = {
        "model_type": "intern_vit_6b", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 40, "image_size": 32, "patch_size": 8, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "norm_type": "rms_norm" if giant else "layer_norm", "qkv_bias": not giant, "qk_normalization": giant,
    }  # fmt: skip
    return {
        "architectures": ["Sa2VAChatModel"], "model_type": "sa2va_chat", "template": template,
        "vision_config": vision, "llm_config": _text(architectures=[architecture], **text),
        "select_layer": -1, "force_image_size": 32, "downsample_ratio": 0.5, "ps_version": "v2",
    }  # fmt: skip


def _qwen(vision: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    shared = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 40, "spatial_merge_size": 2}
    ids = build_tokenizer().get_vocab()
    return {
        "architectures": ["Sa2VAChatModelQwen"], "model_type": "sa2va_chat", "template": "qwen_chat",
        "vision_config": shared | {"out_hidden_size": 32, "temporal_patch_size": 2, "initializer_range": 0.2} | vision,
        "text_config": _text(**text),
        "image_token_id": ids[qwen_vl.IMAGE_TOKEN], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids[qwen_vl.IMAGE_START], "vision_end_token_id": ids[qwen_vl.IMAGE_END],
    }  # fmt: skip


DYNAMIC = {"type": "dynamic", "factor": 2.0}
SU = {"type": "su", "short_factor": [1.0, 1.2, 1.4, 1.6], "long_factor": [2.0, 3.0, 4.0, 5.0]}
OFFICIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "internvl_qwen2": ("internvl", _internvl("Qwen2ForCausalLM", use_sliding_window=False, sliding_window=128)),
    "internvl_qwen3": ("internvl", _internvl("Qwen3ForCausalLM", head_dim=16, attention_bias=False)),
    "internvl_internlm2": (
        "internvl",
        _internvl("InternLM2ForCausalLM", "internlm2_chat", bias=False, rope_scaling=DYNAMIC),
    ),
    "internvl_phi3": (
        "internvl",
        _internvl("Phi3ForCausalLM", "phi3-chat", rope_scaling=SU, original_max_position_embeddings=256),
    ),
    "internvl_6b": ("internvl", _internvl("InternLM2ForCausalLM", "internlm2_chat", giant=True, bias=False)),
    "qwen2_5_vl": (
        "qwen2_5_vl",
        _qwen(
            {"model_type": "qwen2_5_vl", "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1],
             "hidden_act": "silu", "tokens_per_second": 2},
            {"model_type": "qwen2_5_vl_text", "rope_theta": 1e6, "rope_scaling": {"type": "mrope",
             "mrope_section": [2, 1, 1]}},
        ),
    ),
    "qwen3_vl": (
        "qwen3_vl",
        _qwen(
            {"model_type": "qwen3_vl", "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
             "hidden_act": "gelu_pytorch_tanh"},
            {"model_type": "qwen3_vl_text", "head_dim": 16, "attention_bias": False, "rope_theta": 5e6,
             "rope_scaling": {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}},
        ),
    ),
    "llava": (
        "llava",
        {
            "architectures": ["Sa2VAChatModelLlava"], "model_type": "sa2va_chat", "template": "vicuna",
            "vision_config": {
                "model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
                "intermediate_size": 40, "image_size": 28, "patch_size": 14, "projection_dim": 16,
            },
            "text_config": _text(model_type="llama"),
            "image_token_index": build_tokenizer().get_vocab()["<image>"],
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        },
    ),
}  # fmt: skip


def build_config(kind: str) -> Sa2VAConfig:
    """Translate the published config; pictures stay small."""
    family, official = OFFICIAL[kind]
    values = LAYOUTS[family].config_from_official(official, build_tokenizer().get_vocab(), "")
    if values.get("min_pixels"):
        values |= {"min_pixels": 60 * 60, "max_pixels": 120 * 120}
    return Sa2VAConfig(family=family, sam2=build_model()[0].config.sam2, **values)


def build_family(kind: str) -> tuple[Sa2VA, Processor]:
    """Build a model in which no weight is at a start value that hides mistakes; each call returns one of its own."""
    return copy.deepcopy(_build_once(kind))


@cache
def _build_once(kind: str) -> tuple[Sa2VA, Processor]:
    config = build_config(kind)
    torch.manual_seed(0)
    model = Sa2VA(config).eval()
    with torch.no_grad():
        for parameter in model.mllm.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model, Processor(config, build_tokenizer())
