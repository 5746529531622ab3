"""Score sampled answers by rules against the ground truth: masks, presence, number of masks, format and words.

Flow: Prediction of a sampled answer, Truth of its prompt -> score_answer -> scores by name -> total -> policy.py.
Source: Seg-Zero, arXiv:2503.06520 (format and accuracy rewards for segmentation); ours are of the decoded masks.
Shapes: P predicted masks, M true masks, K frames, H W picture.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from sa2va.metrics.ap import matched_iou
from sa2va.metrics.iou import pairwise_iou
from sa2va.metrics.text import exact_match
from sa2va.tokens import PHRASE_TOKENS, REGION_TOKENS
from sa2va.types import Masks


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Weights of the rewards, each 0..1; the reward of an answer is the mean of those that apply to its prompt."""

    mask: float = 1.0  # mean IoU after matching; applies if the true answer has a mask with pixels
    presence: float = 1.0  # pixels where there is an object, none where there is none
    number: float = 0.5  # as many masks as the true answer
    format: float = 0.5  # the answer ends by itself, and its tags are paired
    words: float = 1.0  # the words of the true answer; applies if that has no masks

    def __post_init__(self) -> None:
        for one in fields(self):
            if not 0 <= getattr(self, one.name) < math.inf:
                raise ValueError(f"rewards: {one.name} is {getattr(self, one.name)}; expected 0 or more")
        if not self.presence + self.number + self.format:
            raise ValueError("rewards: presence, number and format are 0, so that some prompts have none; raise one")

    def total(self, scores: Mapping[str, float]) -> float:
        """Return the weighted mean of the scores of an answer, 0..1."""
        weights = {name: getattr(self, name) for name in scores}
        return sum(weights[name] * score for name, score in scores.items()) / sum(weights.values())


@dataclass(frozen=True)
class Truth:
    """The true answer of a prompt."""

    answer: str
    masks: Masks  # (M, K, H, W), one for each object of the answer; a mask without pixels is an absent object


@dataclass(frozen=True)
class Sampled:
    """A sampled answer with its masks."""

    text: str  # special tokens included
    masks: Masks  # (P, K, H, W)
    has_ended: bool  # by an end token or string, not by the limit of tokens


def score_answer(answer: Sampled, truth: Truth) -> dict[str, float]:
    """Return the rewards that apply to an answer, 0..1 each, by the names of RewardConfig."""
    shown, meant = (masks[masks.any((1, 2, 3))] for masks in (answer.masks, truth.masks))
    scores = {
        "presence": float(bool(len(shown)) == bool(len(meant))),
        "number": float(len(answer.masks) == len(truth.masks)),
        "format": float(answer.has_ended and has_paired_tags(answer.text)),
    }
    if len(meant):
        size = np.prod(meant.shape[1:])  # two dimensions are enough for an IoU over all frames
        flat = [masks.reshape(len(masks), 1, size) for masks in (shown, meant)]
        scores["mask"] = matched_iou(pairwise_iou(*flat))
    elif not len(truth.masks):
        scores["words"] = float(exact_match(answer.text, truth.answer))
    return scores


def has_paired_tags(text: str) -> bool:
    """Tell whether each phrase tag has its partner, none lies within another, and there is no region tag."""
    start, end = map(re.escape, PHRASE_TOKENS)
    rest = re.sub(rf"{start}(?:(?!{start}|{end}).)+{end}", "", text, flags=re.DOTALL)
    return not any(tag in rest for tag in (*PHRASE_TOKENS, *REGION_TOKENS))
