"""Ask whether samples of a model differ from each other as people do, and whether each person is met by one.

Flow: strings of all samples and all people of a case -> diversity_score, recall_score.
Source: ScanDiff, arXiv:2507.23021 (both scores).
Shapes: S samples, P people.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from sa2va.gaze.metrics.strings import Symbols, string_similarity


def mutual_similarity(strings: Sequence[Symbols]) -> float:
    """Mean sequence score of all pairs; 1 for a single string, which has nothing to differ from.

    Args:
        strings: S or P strings, at least one.
    """
    pairs = [string_similarity(one, other) for one, other in combinations(strings, 2)]
    return float(np.mean(pairs)) if pairs else 1.0


def diversity_score(preds: Sequence[Symbols], humans: Sequence[Symbols]) -> float:
    """DSS: likeness of samples and people, lowered where samples are more, or less, alike than people are.

    Args:
        preds: S strings.
        humans: P strings.

    Returns:
        0..1, higher is better.
    """
    likeness = float(np.mean(_table(preds, humans)))
    return likeness / (1 + abs(mutual_similarity(preds) - mutual_similarity(humans)))


def recall_score(preds: Sequence[Symbols], humans: Sequence[Symbols], threshold: float = 0.5) -> float:
    """RSS: share of people to whom some sample has a sequence score above the threshold.

    Args:
        preds: S strings.
        humans: P strings.
        threshold: 0..1.

    Returns:
        0..1, higher is better.
    """
    return float(np.mean(np.max(_table(preds, humans), axis=0) > threshold))


def _table(preds: Sequence[Symbols], humans: Sequence[Symbols]) -> list[list[float]]:
    if not preds or not humans:
        raise ValueError(f"diversity: {len(preds)} samples and {len(humans)} people, expected at least one each")
    return [[string_similarity(pred, human) for human in humans] for pred in preds]
