"""Check the fields that all published configurations share."""

import pytest

from sa2va.checkpoints.published.fields import header, side_of, text_to_native, text_to_official

TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "sliding_window": None, "eos_token_id": 7, "bos_token_id": None,
    "rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "torch_dtype": "bfloat16",
}  # fmt: skip


def test_a_language_model_goes_both_ways() -> None:
    native = text_to_native(TEXT)
    assert native == {
        "hidden_size": 32, "num_hidden_layers": 2, "eos_token_id": 7, "bos_token_id": None,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0}, "tie_word_embeddings": False,
    }  # fmt: skip
    official = text_to_official(native, kind_key="type")
    assert official == {key: TEXT[key] for key in official if key != "tie_word_embeddings"} | {
        "tie_word_embeddings": False
    }
    assert text_to_native(official) == native


def test_classes_are_named_as_published() -> None:
    assert header()["architectures"] == ["Sa2VAChatModel"]
    qwen = header("Qwen", "modeling_sa2va_qwen")
    assert qwen["auto_map"]["AutoConfig"] == "configuration_sa2va_chat.Sa2VAChatConfigQwen"
    assert qwen["auto_map"]["AutoModel"] == "modeling_sa2va_qwen.Sa2VAChatModelQwen"


def test_a_size_is_a_square() -> None:
    assert side_of(14) == side_of([14, 14]) == 14
    with pytest.raises(ValueError, match="expected a square"):
        side_of([14, 16])
