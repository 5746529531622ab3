"""Score words: exact answers, and descriptions by the attributes they name.

Flow: evaluation/ -> exact_match (conversation), set_f1 (one object), attribute_counts (a whole caption).
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from sa2va.metrics.ap import greedy_match
from sa2va.tokens import ADDED_TOKENS

Attributes = Mapping[str, str]  # of one object: {"color": "red", "shape": "circle", ...}


def plain_text(text: str) -> str:
    """Drop mask, phrase and region tokens and squeeze the blanks they leave."""
    for token in ADDED_TOKENS:
        text = text.replace(token, " ")
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" +([.,;:!?])", r"\1", text)
    return re.sub(r"[,;:]([.!?])", r"\1", text)  # "Here it is: [SEG]." has nothing left to announce


def normalize(text: str) -> str:
    """Lower case, no special tokens, no punctuation, single blanks."""
    return re.sub(r"[\W_]+", " ", plain_text(text).lower()).strip()


def exact_match(answer: str, gold: str) -> bool:
    """Whether two answers are the same words, whatever their case and punctuation."""
    return normalize(answer) == normalize(gold)


def set_f1(pred: Iterable[object], gold: Iterable[object]) -> float:
    """F1 of two sets; two empty sets agree (1)."""
    pred, gold = set(pred), set(gold)
    return f1(len(pred & gold), len(pred), len(gold))


def f1(num_shared: float, num_pred: float, num_gold: float) -> float:
    """Harmonic mean of precision and recall from counts; nothing said about nothing is 1."""
    return 2 * num_shared / (num_pred + num_gold) if num_pred + num_gold else 1.0


def attribute_counts(
    pred: Sequence[Attributes], gold: Sequence[Attributes], only: Collection[str] | None = None
) -> tuple[int, int, int]:
    """Compare two lists of described objects, attribute by attribute.

    Objects are paired one to one, the most alike first, so that "a red circle and a blue square" does not
    pass for "a blue circle and a red square". What is said of an unpaired object is wrong, or missing.

    Args:
        pred: attributes of each described object.
        gold: attributes of each true object.
        only: names of the attributes that count; objects are paired by all of them. None counts all.

    Returns:
        Attributes that agree, that were said, that should have been said; `f1` takes the three.
    """
    shared = np.array([[len(set(one.items()) & set(other.items())) for other in gold] for one in pred], float)
    pairs = greedy_match(shared.reshape(len(pred), len(gold)))
    said = [_pick(one, only) for one in pred]
    true = [_pick(one, only) for one in gold]
    agree = sum(len(said[row] & true[column]) for row, column in pairs)
    return agree, sum(map(len, said)), sum(map(len, true))


def _pick(one: Attributes, only: Collection[str] | None) -> set[tuple[str, str]]:
    return {(name, value) for name, value in one.items() if only is None or name in only}
