"""Measure how far masks are from the truth.

Flow: sa2va.py (MaskOutput, targets) -> losses.
Source: Sa2VA, arXiv:2501.04001 (2.0 BCE + 0.5 dice on sampled points); PointRend, arXiv:1912.08193 (uncertain
    points); SAM 2, arXiv:2408.00714 (IoU and presence heads). Here all heads start from nothing, so IoU and
    presence get losses too, which the reference leaves out.
Shapes: N masks, P points, h w logit grid, H W target grid.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.model.sam.sam2 import MaskOutput


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms and the number of sampled points."""

    lm: float = 1.0
    bce: float = 2.0
    dice: float = 0.5
    place: float = 0.5
    iou: float = 1.0
    presence: float = 1.0
    num_points: int = 1024  # P, a mask
    oversample: float = 3.0  # candidates drawn for each uncertain point
    uncertain_share: float = 0.75


@dataclass(frozen=True)
class LossTerm:
    """One term of a loss as a weighted sum and its count.

    A mean over the rows of one process is not the mean over all processes where they hold different numbers of rows;
    sums and counts can be added up. The trainer divides.
    """

    total: Tensor  # scalar, differentiable; 0 where there are no rows
    count: float | Tensor  # rows that `total` sums over
    weight: float = 1.0  # of the term's mean in the loss that is minimized

    @classmethod
    def of(cls, values: Tensor, weight: float = 1.0) -> "LossTerm":
        """Sum values of any shape, one per row."""
        return cls(values.sum(), float(values.numel()), weight)

    @property
    def mean(self) -> Tensor:
        """Mean over the rows of this process; 0 of none."""
        return self.total / max(float(self.count), 1.0)


def average(values: Tensor) -> Tensor:
    """Mean of values that may be none: then 0, which still hangs on them, so that it can be backpropagated."""
    return values.sum() / max(values.numel(), 1)


def sample_points(values: Tensor, points: Tensor) -> Tensor:
    """Read maps at points, bilinearly: (N, H, W), (N, P, 2) xy in 0..1 -> (N, P)."""
    return F.grid_sample(values[:, None], points[:, None] * 2 - 1, align_corners=False)[:, 0, 0]


@torch.no_grad()
def uncertain_points(mask_logits: Tensor, config: LossConfig) -> Tensor:
    """Draw points, most of them where the mask is undecided: (N, h, w) -> (N, P, 2) xy in 0..1."""
    n, device = len(mask_logits), mask_logits.device
    num_uncertain = int(config.num_points * config.uncertain_share)
    drawn = torch.rand(n, int(config.num_points * config.oversample), 2, device=device)
    order = sample_points(mask_logits, drawn).abs().topk(num_uncertain, largest=False).indices  # (N, .75 P)
    uncertain = drawn.gather(1, order[..., None].expand(-1, -1, 2))
    uniform = torch.rand(n, config.num_points - num_uncertain, 2, device=device)
    return torch.cat([uncertain, uniform], dim=1)


def point_losses(mask_logits: Tensor, targets: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Return BCE and dice, averaged over masks: (N, h, w) logits, (N, H, W) float targets."""
    points = uncertain_points(mask_logits, config)
    logits, truth = sample_points(mask_logits, points), sample_points(targets, points)
    bce = F.binary_cross_entropy_with_logits(logits, truth)
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * truth).sum(-1) + 1) / (chance.sum(-1) + truth.sum(-1) + 1)
    return bce, dice.mean()


def place_loss(mask_logits: Tensor, targets: Tensor, stride: int = 4) -> Tensor:
    """Cross-entropy of the one choice that a mask makes: which cells of the coarse grid its object lies on.

    Our own addition. Where several objects look alike to the decoder, point losses are content with a little of
    each; a softmax over places is not, so the decoder learns to choose long before it draws well.

    Args:
        mask_logits: (N, h, w).
        targets: (N, H, W) float, none of them empty.
        stride: cells of the logit grid to one of the coarse grid.
    """
    logits = F.avg_pool2d(mask_logits[:, None], stride).flatten(1)  # (N, cells)
    size = (mask_logits.shape[-2] // stride, mask_logits.shape[-1] // stride)
    cover = F.adaptive_avg_pool2d(targets[:, None], size).flatten(1)
    return F.cross_entropy(logits, cover / cover.sum(1, keepdim=True))


@torch.no_grad()
def candidate_ious(candidates: Tensor, targets: Tensor) -> Tensor:
    """Real IoU of each candidate on its own grid: (N, 3, h, w), (N, H, W) -> (N, 3)."""
    masks = candidates > 0
    truth = F.adaptive_avg_pool2d(targets[:, None], (candidates.shape[-2], candidates.shape[-1])) > 0.5
    union = (masks | truth).sum((-2, -1))
    return (masks & truth).sum((-2, -1)) / union.clamp(min=1)


def mask_losses(output: MaskOutput, targets: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Losses of N decoded masks against visible pixels.

    An empty target trains presence alone: there is no mask to draw and no IoU to predict. Of the three
    candidates the one with the best real IoU is trained, so that they can hold different hypotheses.

    Args:
        output: N masks.
        targets: (N, H, W) bool.
        config: weights are not applied here.

    Returns:
        "bce", "dice", "place", "iou", "presence": scalars.
    """
    there = targets.flatten(1).any(1)
    presence = average(F.binary_cross_entropy_with_logits(output.presence_logits, there.float(), reduction="none"))
    if not there.any():
        nothing = output.candidates.sum() * 0 + output.candidate_scores.sum() * 0
        return {"bce": nothing, "dice": nothing, "place": nothing, "iou": nothing, "presence": presence}
    candidates, truth = output.candidates[there], targets[there].float()
    ious = candidate_ious(candidates, truth)
    best = candidates[torch.arange(len(ious), device=ious.device), ious.argmax(-1)]
    bce, dice = point_losses(best, truth, config)
    # Squared error, not the absolute one of SAM 2: its minimum is the mean, so the scores come out calibrated.
    iou = F.mse_loss(output.candidate_scores[there], ious)
    place = place_loss(best, truth)
    return {"bce": bce, "dice": dice, "place": place, "iou": iou, "presence": presence}


def total_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Weighted sum of the terms that are there."""
    return torch.stack([getattr(config, name) * value for name, value in terms.items()]).sum()
