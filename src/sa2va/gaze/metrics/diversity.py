"""Score the diversity of sampled scanpaths relative to people's, and the share of people that samples resemble.

Flow: strings of all samples and all people of a case -> diversity_score, recall_score.
Source: ScanDiff, arXiv:2507.23021, for both scores.
Shapes: S samples, P people.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from sa2va.gaze.metrics.strings import Symbols, string_similarity


def mutual_similarity(strings: Sequence[Symbols]) -> float:
    """Compute the mean sequence score of all pairs; 1 for a single string.

    Args:
        strings: S or P strings, at least one.
    """
    pairs = [string_similarity(one, other) for one, other in combinations(strings, 2)]
    return float(np.mean(pairs)) if pairs else 1.0


def diversity_score(preds: Sequence[Symbols], humans: Sequence[Symbols]) -> float:
    """Compute DSS: similarity of samples to people, reduced if samples are more or less diverse than people.

    Args:
        preds: S strings.
        humans: P strings.

    Returns:
        0..1, higher is better.
    """
    similarity = float(np.mean(_table(preds, humans)))
    return similarity / (1 + abs(mutual_similarity(preds) - mutual_similarity(humans)))


def recall_score(preds: Sequence[Symbols], humans: Sequence[Symbols], threshold: float = 0.5) -> float:
    """Compute RSS: the share of people to whom some sample has a sequence score above the threshold.

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
