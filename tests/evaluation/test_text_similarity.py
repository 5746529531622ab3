"""Check the similarity of phrases: a small BERT from a folder, the choice by environment variable."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from sa2va.evaluation.text_similarity import VARIABLE, find_similarity
from sa2va.metrics.grounded import word_overlap

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "shirt", "man"]


@pytest.fixture
def bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BertModel:
    """Save a small BERT and name it by the variable."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return model


def test_cosines_of_mean_vectors(bert: BertModel) -> None:
    name, compare = find_similarity()
    found = compare(["a man"], ["a man", "A red shirt"])
    ids = [torch.tensor([[2, 5, 8, 3]]), torch.tensor([[2, 5, 6, 7, 3]])]
    with torch.inference_mode():
        first, second = (bert(one).last_hidden_state[0].mean(0).double() for one in ids)
    expected = torch.nn.functional.cosine_similarity(first, second, dim=0)
    assert name == "BERT" and found.shape == (1, 2)
    assert np.allclose(found, [[1.0, float(expected)]], atol=1e-6)
    assert compare([], ["a man"]).shape == (0, 1)


def test_words_are_compared_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_similarity() == ("word overlap", word_overlap)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=f"SA2VA_BERT: {tmp_path} holds no BERT model"):
        find_similarity()
