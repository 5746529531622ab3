"""Compare phrases by the BERT vectors that GLaMM's recall uses.

Flow: folder of a BERT model, named by the environment variable SA2VA_BERT -> load_bert -> cosines of two lists of
    phrases. Without it, phrases are compared by their words (metrics/grounded.py).
Source: GLaMM, arXiv:2311.03356: bert-base-uncased, mean of the last hidden states of all tokens, cosine.
Shapes: P phrases said, G true phrases, D hidden size.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va.metrics.grounded import cosine_similarities, word_overlap

VARIABLE = "SA2VA_BERT"
_MAX_TOKENS = 512

Similarity = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]  # P and G phrases -> (P, G), at most 1


def find_similarity() -> tuple[str, Similarity]:
    """Return the similarity of phrases and its name: BERT's if SA2VA_BERT names a model folder, else word overlap.

    Raises:
        ValueError: the folder holds no BERT model.
    """
    folder = os.environ.get(VARIABLE)
    return ("BERT", load_bert(Path(folder))) if folder else ("word overlap", word_overlap)


@lru_cache(maxsize=1)
def load_bert(folder: Path) -> Similarity:
    """Load a BERT model and return the cosine similarity of its mean vectors.

    Raises:
        ValueError: the folder holds no BERT model in safetensors.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{VARIABLE}: {folder} holds no BERT model; expected config.json, model.safetensors and the tokenizer of "
            "bert-base-uncased"
        ) from error

    assert tokenizer is not None

    @lru_cache(maxsize=65536)
    def embed(text: str) -> NDArray[np.float64]:
        tokens = tokenizer(text, return_tensors="pt", max_length=_MAX_TOKENS, truncation=True)
        with torch.inference_mode():
            return model(**tokens).last_hidden_state[0].mean(0).double().numpy()  # (D,)

    def compare(said: Sequence[str], gold: Sequence[str]) -> NDArray[np.float64]:
        if not said or not gold:
            return np.zeros((len(said), len(gold)))
        return cosine_similarities(np.stack([embed(one) for one in said]), np.stack([embed(one) for one in gold]))

    return compare
