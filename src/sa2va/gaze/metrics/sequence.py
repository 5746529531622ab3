"""Sequence score (SS) and fixation edit distance (FED) of a predicted scanpath, whole or per pack.

Flow: strings.py -> sequence_score, fixation_edit_distance, pack_..., against all people of a case.
Source: RefCOCO-Gaze, arXiv:2407.19605 (per pack); Yang et al., CVPR 2020 (SS); Mondal et al., CVPR 2023 (FED, not
    normalized). The published per-pack code fills empty packs with a stand-in fixation, so that no pack is
    compared as empty. Ours compares packs as they are; `published=True` reproduces the published numbers.
Shapes: P people, N + 2 packs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sa2va.gaze.metrics.strings import Symbols, as_points, edit_distance, nearest_symbols, string_similarity

PackStrings = Sequence[Symbols]  # one string per pack


def stand_in_strings(
    packs: Sequence[ArrayLike], centers: ArrayLike, middle: tuple[float, float] = (256.0, 160.0)
) -> list[list[int]]:
    """Convert each pack to symbols as published: an empty pack repeats the last symbol before it.

    Args:
        packs: N + 2 arrays (K, 2) xy, px.
        centers: (C, 2) xy, px.
        middle: Center of the canvas, xy; its symbol fills an empty first pack.
    """
    last = nearest_symbols([middle], centers)[0]
    strings = []
    for pack in packs:
        string = nearest_symbols(pack, centers) if len(as_points(pack)) else [last]
        last = string[-1]
        strings.append(string)
    return strings


def sequence_score(pred: Symbols, humans: Sequence[Symbols]) -> float:
    """Compute SS: the longest common subsequence divided by the longer length, averaged over people.

    Args:
        pred: Symbols of the whole prediction.
        humans: P strings.

    Returns:
        0..1, higher is better.
    """
    return _mean_over_people(pred, humans, string_similarity)


def fixation_edit_distance(pred: Symbols, humans: Sequence[Symbols]) -> float:
    """Compute FED: the Levenshtein distance, averaged over people. Not normalized, so it favors short predictions.

    Returns:
        0 or more symbols, lower is better.
    """
    return _mean_over_people(pred, humans, edit_distance)


def pack_sequence_score(pred: PackStrings, humans: Sequence[PackStrings], *, published: bool = False) -> float:
    """Compute SS per pack, averaged over packs, then over people.

    Args:
        pred: One string per pack.
        humans: P lists of one string per pack.
        published: Fill missing packs as the published code does; the strings then come from stand_in_strings. Otherwise
            missing packs are empty, and two empty packs match.

    Returns:
        0..1, higher is better.
    """
    return _mean_over_people(pred, humans, _per_pack(string_similarity, published))


def pack_edit_distance(pred: PackStrings, humans: Sequence[PackStrings], *, published: bool = False) -> float:
    """Compute FED per pack, averaged over packs, then over people; arguments as in pack_sequence_score.

    Returns:
        0 or more symbols, lower is better.
    """
    return _mean_over_people(pred, humans, _per_pack(edit_distance, published))


def _mean_over_people(pred: Sequence[Any], humans: Sequence[Sequence[Any]], compare: Callable[..., float]) -> float:
    if not humans:
        raise ValueError("scanpath score: no human scanpaths, expected at least one")
    return float(np.mean([compare(pred, human) for human in humans]))


def _per_pack(compare: Callable[[Symbols, Symbols], float], published: bool) -> Callable[..., float]:
    def score(pred: PackStrings, human: PackStrings) -> float:
        if not len(pred) or not len(human):
            raise ValueError(f"scanpath score: {len(pred)} and {len(human)} packs, expected at least one each")
        ours, theirs = (_filled_up if published else _lengthened)(pred, human)
        return float(np.mean([compare(one, other) for one, other in zip(ours, theirs, strict=True)]))

    return score


def _lengthened(pred: PackStrings, human: PackStrings) -> tuple[list[Symbols], list[Symbols]]:
    longer = max(len(pred), len(human))
    return [*pred, *[[]] * (longer - len(pred))], [*human, *[[]] * (longer - len(human))]


def _filled_up(pred: PackStrings, human: PackStrings) -> tuple[list[Symbols], list[Symbols]]:
    """Fill missing packs with the last symbol: predicted ones once per human fixation, human ones once."""
    ours = [*pred, *([pred[-1][-1]] * len(pack) for pack in human[len(pred) :])]
    theirs = [*human, *([human[-1][-1]] for _ in pred[len(human) :])]
    return ours, theirs
