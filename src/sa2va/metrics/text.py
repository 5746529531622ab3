"""Score answers by exact match and captions by the attributes they name.

Flow: evaluation/ -> exact_match (conversation), attribute_counts and f1 (captions).
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.ap import greedy_match
from sa2va.metrics.interval import SumStatistic
from sa2va.tokens import ADDED_TOKENS

Attributes = Mapping[str, str]  # of one object: {"color": "red", "shape": "circle", ...}


def plain_text(text: str) -> str:
    """Remove mask, phrase and region tokens and the blanks they leave."""
    for token in ADDED_TOKENS:
        text = text.replace(token, " ")
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" +([.,;:!?])", r"\1", text)
    return re.sub(r"[,;:]([.!?])", r"\1", text)  # "Here it is: [SEG]." -> "Here it is."


def normalize(text: str) -> str:
    """Normalize a text: lower case, no special tokens, no punctuation, single blanks."""
    return re.sub(r"[\W_]+", " ", plain_text(text).lower()).strip()


def exact_match(answer: str, gold: str) -> bool:
    """Return whether two answers have the same words, ignoring case and punctuation."""
    return normalize(answer) == normalize(gold)


def _divide_counts(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    total = sums[:, 1] + sums[:, 2]
    return np.where(total > 0, 2 * sums[:, 0] / np.maximum(total, 1), 1.0)


pooled_f1 = SumStatistic(terms=lambda rows: np.asarray(rows, float).reshape(-1, 3), combine=_divide_counts)
"""`f1` of counts (E, 3) summed over items: matching, predicted, true."""


def f1(num_shared: float, num_pred: float, num_gold: float) -> float:
    """Compute the harmonic mean of precision and recall from counts; 1 if both are empty."""
    return pooled_f1([(num_shared, num_pred, num_gold)])


def attribute_counts(
    pred: Sequence[Attributes], gold: Sequence[Attributes], only: Collection[str] | None = None
) -> tuple[int, int, int]:
    """Count matching attributes of two lists of described objects.

    Objects are paired one to one, most similar first, so that "a red circle and a blue square" does not match
    "a blue circle and a red square". Attributes of unpaired objects do not match.

    Args:
        pred: attributes of each described object.
        gold: attributes of each true object.
        only: names of the attributes to count, None = all. Pairing always uses all.

    Returns:
        Numbers of matching, predicted and true attributes, the arguments of `f1`.
    """
    shared = np.array([[len(set(one.items()) & set(other.items())) for other in gold] for one in pred], float)
    pairs = greedy_match(shared.reshape(len(pred), len(gold)))
    said = [_pick(one, only) for one in pred]
    true = [_pick(one, only) for one in gold]
    agree = sum(len(said[row] & true[column]) for row, column in pairs)
    return agree, sum(map(len, said)), sum(map(len, true))


def _pick(one: Attributes, only: Collection[str] | None) -> set[tuple[str, str]]:
    return {(name, value) for name, value in one.items() if only is None or name in only}
