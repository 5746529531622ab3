"""Compute the mask losses: BCE, dice, location, IoU and presence.

Flow: sa2va.py (MaskOutput, targets, seeds) -> mask_losses -> LossTerms by name.
Source: Sa2VA, arXiv:2501.04001, and its released code (2.0 BCE + 0.5 dice on 12,544 points of the candidate with the
    highest predicted IoU); PointRend, arXiv:1912.08193 (uncertain points); SAM 2, arXiv:2408.00714 (IoU and presence
    heads, which Sa2VA leaves without a loss). The location loss ("place") is our own.
Shapes: N masks, P points, h w logit grid, H W target grid.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.model.sam.sam2 import MaskOutput


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss weights and point sampling; the defaults are the paper's.

    The terms "place", "iou" and "presence" are not computed at weight 0.
    """

    lm: float = 1.0
    bce: float = 2.0
    dice: float = 0.5
    place: float = 0.0
    iou: float = 0.0
    presence: float = 0.0
    num_points: int = 12_544  # P, points per mask
    oversample: float = 3.0  # candidate points per mask, as a multiple of P; the most uncertain ones are kept
    uncertain_share: float = 0.75  # share of the points chosen by uncertainty; the others are uniform
    candidate: Literal["predicted", "real"] = "predicted"  # train the one with the highest predicted or actual IoU
    skip_empty: bool = False  # an empty target trains only presence
    follow_iou: float = 0.5  # an object is tracked if the IoU on its highest-scoring key frame exceeds it; -1 = always

    def __post_init__(self) -> None:
        lows = {"num_points": 1, "oversample": 1.0, "lm": 0, "bce": 0, "dice": 0, "place": 0, "iou": 0, "presence": 0}
        for name, low in lows.items():
            if not low <= getattr(self, name) < math.inf:
                raise ValueError(f"losses: {name} is {getattr(self, name)}; expected {low} or more")
        for name, low in (("uncertain_share", 0), ("follow_iou", -1)):
            if not low <= getattr(self, name) <= 1:
                raise ValueError(f"losses: {name} is {getattr(self, name)}; expected {low} to 1")


@dataclass(frozen=True)
class LossTerm:
    """Loss term: sum over rows, number of rows, and weight of the mean.

    Processes may have different numbers of rows, so their means cannot be averaged. The trainer reduces sums and
    counts over all processes and then divides.
    """

    total: Tensor  # scalar, differentiable; 0 without rows
    count: float | Tensor  # rows that `total` sums over
    weight: float = 1.0  # weight of the term's mean in the minimized loss

    @classmethod
    def of(cls, values: Tensor, weight: float = 1.0) -> "LossTerm":
        """Build a term from values of any shape, one per row."""
        return cls(values.sum(), float(values.numel()), weight)

    @property
    def mean(self) -> Tensor:
        """Mean over the rows of this process; 0 without rows."""
        return self.total / max(float(self.count), 1.0)


def sample_points(values: Tensor, points: Tensor) -> Tensor:
    """Sample maps at points, bilinearly: (N, H, W), (N, P, 2) xy in 0..1 -> (N, P)."""
    return F.grid_sample(values[:, None], points[:, None] * 2 - 1, align_corners=False)[:, 0, 0]


def random_points(seeds: Tensor, num_points: int, stream: int) -> Tensor:
    """Sample uniform points from a seed per row, independent of device and batch.

    A counter is hashed with the finalizer of SplitMix64 (Steele et al., doi:10.1145/2660193.2660195).

    Args:
        seeds: (N,) long.
        num_points: P.
        stream: index of the random stream, to use a seed more than once.

    Returns:
        (N, P, 2) xy in 0..1.
    """
    states = _mix(seeds + _mix(torch.tensor(stream, device=seeds.device)))
    counter = torch.arange(2 * num_points, device=seeds.device) * -7046029254386353131  # 2^64 / golden ratio, odd
    found = torch.empty(len(seeds), 2 * num_points, device=seeds.device)
    together = 1 if seeds.device.type == "cpu" else max(1, len(seeds))  # the bits of one row fit a CPU's caches
    for some, into in zip(states.split(together), found.split(together), strict=True):
        into.copy_((_mix(some[:, None] + counter) >> 40).bitwise_and_(0xFFFFFF))
    return found.div_(2**24).unflatten(1, (num_points, 2))


def _mix(state: Tensor) -> Tensor:
    """Apply the finalizer of SplitMix64 to 64-bit integers, which wrap around, in place."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        state.bitwise_xor_((state >> shift).bitwise_and_((1 << 64 - shift) - 1)).mul_(factor)
    return state.bitwise_xor_((state >> 31).bitwise_and_((1 << 33) - 1))


@torch.no_grad()
def uncertain_points(mask_logits: Tensor, config: LossConfig, seeds: Tensor) -> Tensor:
    """Sample points by uncertainty (PointRend): (N, h, w), seeds (N,) -> (N, P, 2) xy in 0..1."""
    num_uncertain = int(config.num_points * config.uncertain_share)
    drawn = random_points(seeds, int(config.num_points * config.oversample), stream=0)
    doubts = sample_points(mask_logits, drawn).abs()
    order = doubts.topk(num_uncertain, largest=False, sorted=False).indices  # (N, .75 P)
    uncertain = drawn.gather(1, order[..., None].expand(-1, -1, 2))
    return torch.cat([uncertain, random_points(seeds, config.num_points - num_uncertain, stream=1)], dim=1)


def point_losses(mask_logits: Tensor, targets: Tensor, config: LossConfig, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Return BCE and dice (N,) each: (N, h, w) logits, (N, H, W) float targets, (N,) seeds."""
    points = uncertain_points(mask_logits, config, seeds)
    logits, truth = sample_points(mask_logits, points), sample_points(targets, points)
    bce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1)
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * truth).sum(-1) + 1) / (chance.sum(-1) + truth.sum(-1) + 1)
    return bce, dice


def place_loss(mask_logits: Tensor, targets: Tensor, stride: int = 4) -> Tensor:
    """Compute the cross-entropy over coarse cells between the target's area and a softmax of the mask logits.

    When several objects look alike to the decoder, a mask with a little of each keeps the point losses low. A softmax
    over cells penalizes it, so the decoder learns to select one object long before its masks are accurate.

    Args:
        mask_logits: (N, h, w).
        targets: (N, H, W) float; the loss of an empty one is 0.
        stride: side of a coarse cell, in cells of the logit grid.

    Returns:
        (N,).
    """
    logits = F.avg_pool2d(mask_logits[:, None], stride).flatten(1)  # (N, cells)
    size = (mask_logits.shape[-2] // stride, mask_logits.shape[-1] // stride)
    cover = F.adaptive_avg_pool2d(targets[:, None], size).flatten(1)
    return F.cross_entropy(logits, cover / cover.sum(1, keepdim=True).clamp(min=1e-9), reduction="none")


@torch.no_grad()
def candidate_ious(candidates: Tensor, targets: Tensor) -> Tensor:
    """Compute the IoU of each candidate with its target, on the logit grid: (N, 3, h, w), (N, H, W) -> (N, 3)."""
    masks = candidates > 0
    truth = F.adaptive_avg_pool2d(targets[:, None], (candidates.shape[-2], candidates.shape[-1])) > 0.5
    union = (masks | truth).sum((-2, -1))
    return (masks & truth).sum((-2, -1)) / union.clamp(min=1)


def mask_losses(
    output: MaskOutput, targets: Tensor, config: LossConfig, seeds: Tensor, counts: Tensor | None = None
) -> dict[str, LossTerm]:
    """Compute the losses of N decoded masks against visible pixels.

    Args:
        output: N masks.
        targets: (N, H, W) bool.
        config: weights, point sampling and the candidate to train.
        seeds: (N,) long, seeds of the random points of each mask.
        counts: (N,) 1, or 0 for a mask decoded only so that all processes run the same graph; None = all 1.

    Returns:
        "bce", "dice", "place", "iou", "presence"; the last three only with a weight above 0.
    """
    counts = torch.ones_like(output.presence_logits) if counts is None else counts
    terms: dict[str, LossTerm] = {}
    there = targets.flatten(1).any(1)
    if config.presence:
        wrong = F.binary_cross_entropy_with_logits(output.presence_logits, there.float(), reduction="none")
        terms["presence"] = LossTerm((wrong * counts).sum(), counts.sum(), config.presence)
    if config.skip_empty:
        output, targets, seeds, counts = output.select(there), targets[there], seeds[there], counts[there]
        there = there[there]
    truth = targets.float()
    ious = candidate_ious(output.candidates, truth)
    best = output.best if config.candidate == "predicted" else ious.argmax(-1)
    masks = output.candidates[torch.arange(len(best), device=best.device), best]
    values: dict[str, Tensor] = {}
    values["bce"], values["dice"] = point_losses(masks, truth, config, seeds)
    if config.place:
        values["place"] = place_loss(masks, truth)
    if config.iou:
        # Squared error, not SAM 2's absolute error: its minimum is the mean, which calibrates the scores.
        values["iou"] = (output.candidate_scores - ious).square().mean(-1)
    for name, value in values.items():
        rows = counts * there if name == "place" else counts  # an empty target lies nowhere
        terms[name] = LossTerm((value * rows).sum(), rows.sum(), getattr(config, name))
    return terms
