"""Calibrate the presence and IoU heads by Platt scaling after training.

Flow: requests on synthetic scenes, half for absent objects -> Predictor.probe_batch -> fit -> last layers of the heads.
Source: Platt scaling (Platt, 1999; Guo et al., arXiv:1706.04599), folded into the weights, so that a calibrated
    model is an ordinary checkpoint. Rankings by presence and by score do not change.
Shapes: R requests.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Request
from sa2va.metrics.iou import intersection_union, ratio
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.world.tasks.referring import BALANCED, refseg

FIRST_REQUEST = 30_000_000  # first scene of the requests, in the training split (no held-out pairs)
_EDGE = 1e-6  # a probability this close to 0 or 1 has no finite logit in float32
_LEAST_SPREAD = 0.01  # bounds the slope of a nearly constant head
_BATCH = 16


@dataclass(frozen=True)
class Scale:
    """Platt scaling of one head: slope * logit + offset, with slope > 0."""

    slope: float
    offset: float

    def __call__(self, logits: Tensor) -> Tensor:
        return self.slope * logits + self.offset

    def fold_into(self, linear: nn.Linear) -> None:
        """Fold the scaling into a linear layer, in place."""
        with torch.no_grad():
            linear.weight.mul_(self.slope)
            linear.bias.mul_(self.slope).add_(self.offset)


def fit(logits: Tensor, truth: Tensor) -> Scale:
    """Fit a slope and an offset by cross-entropy (Platt scaling; IoUs are soft targets).

    Args:
        logits: (R,).
        truth: (R,) 0..1, target probabilities.
    """
    log_slope, offset = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    # Standardized logits, for which the optimization is well conditioned.
    center, spread = logits.mean(), logits.std().clamp(min=_LEAST_SPREAD)
    units = (logits - center) / spread
    optimizer = torch.optim.LBFGS([log_slope, offset], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(log_slope.exp() * units + offset, truth)
        loss.backward()
        return loss

    optimizer.step(closure)
    slope = float(log_slope.detach().exp() / spread)
    return Scale(slope, float(offset.detach() - slope * center))


def calibrate(model: Sa2VA, processor: Processor, *, seed: int, num_requests: int) -> None:
    """Calibrate both heads in place, on requests about synthetic scenes.

    Args:
        model: trained model; its train or eval mode is restored.
        processor: processor of the model.
        seed: random seed of the scenes.
        num_requests: R; half of them ask for absent objects.
    """
    training = model.training
    predictor, heads = Predictor(model.eval(), processor), model.sam2.native.mask_decoder
    presence, _, there, _ = probe(predictor, seed, num_requests)
    fit(presence, there.float()).fold_into(heads.pred_obj_score_head.proj_out)
    # Probe again, because presence decides which masks are returned.
    _, scores, there, ious = probe(predictor, seed, num_requests)
    fit(scores[there], ious[there]).fold_into(heads.iou_prediction_head.proj_out)
    model.train(training)


def probe(predictor: Predictor, seed: int, num_requests: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predict exactly one mask per request, for present and absent objects.

    Returns:
        (R,) logits of presence, (R,) logits of the scores, (R,) bool whether the object is present, (R,) actual IoU.
    """
    rows: list[tuple[float, float, bool, float]] = []
    for first in range(0, num_requests, _BATCH):
        indices = range(FIRST_REQUEST + first, FIRST_REQUEST + min(first + _BATCH, num_requests))
        samples = [refseg(seed, "train", index, num_turns=1, kind=BALANCED, empty_share=0) for index in indices]
        asked = [Request(sample.frames[0], sample.turns[0].question) for sample in samples]
        for sample, prediction in zip(samples, predictor.probe_batch(asked), strict=True):
            found = prediction.objects[0]
            target = np.any(sample.masks[list(sample.meta["targets"][0])], axis=0)  # (1, H, W)
            iou = float(ratio(*intersection_union(prediction.masks[0], target))[0])
            rows.append((found.presence, float(found.scores[0]), bool(sample.meta["present"][0]), iou))
    presence, scores, there, ious = torch.tensor(rows).unbind(1)
    return torch.logit(presence, _EDGE), torch.logit(scores, _EDGE), there.bool(), ious
