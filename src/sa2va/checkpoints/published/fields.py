"""Translate the fields that all published configurations share: language model, class names, square sizes.

Flow: official config.json <-> fields of a native configuration; internvl.py, llava.py, qwen_vl.py add their own.
"""

from collections.abc import Sequence
from typing import Any

from sa2va.checkpoints.rope import rope_to_native, rope_to_official

MODEL_TYPE, ARCHITECTURE = "sa2va_chat", "Sa2VAChatModel"
TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "original_max_position_embeddings",
    "rms_norm_eps", "initializer_range", "attention_bias", "use_sliding_window", "sliding_window",
    "max_window_layers",
)  # fmt: skip
TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")  # None is kept: it means that there is no such token


def text_to_native(text: dict[str, Any]) -> dict[str, Any]:
    """Return the native fields of a published language model."""
    native = {key: text[key] for key in TEXT_KEYS if text.get(key) is not None}
    native |= {key: text[key] for key in TOKEN_KEYS if key in text}
    # Always write the rope settings: the default base of a native class may differ from the checkpoint's.
    return native | {"rope_parameters": rope_to_native(text), "tie_word_embeddings": False}


def text_to_official(native: dict[str, Any], kind_key: str = "rope_type") -> dict[str, Any]:
    """Return the published fields of a native language model; see `rope_to_official` for `kind_key`."""
    text = {key: native[key] for key in (*TEXT_KEYS, *TOKEN_KEYS) if key in native}
    if "rope_parameters" in native:
        text |= rope_to_official(native["rope_parameters"], kind_key)
    return text | {"tie_word_embeddings": False}


def header(kind: str = "", model_file: str = "modeling_sa2va_chat") -> dict[str, Any]:
    """Return the class names of a published config.json; `kind`, their suffix, is "", "Llava" or "Qwen"."""
    model = f"{ARCHITECTURE}{kind}"
    return {
        "architectures": [model],
        "model_type": MODEL_TYPE,
        "auto_map": {
            "AutoConfig": f"configuration_sa2va_chat.Sa2VAChatConfig{kind}",
            "AutoModel": f"{model_file}.{model}",
            "AutoModelForCausalLM": f"{model_file}.{model}",
        },
        "tie_word_embeddings": False,
    }


def side_of(value: int | Sequence[int]) -> int:
    """Return the side of a square; some native classes write both sides.

    Raises:
        ValueError: the sides differ.
    """
    sides = set(value) if isinstance(value, Sequence) else {value}
    if len(sides) != 1:
        raise ValueError(f"config.json: a size is {list(sides)}; expected a square")
    return sides.pop()
