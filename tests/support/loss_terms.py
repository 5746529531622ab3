"""Minimize loss terms in a test, as the trainer does in one process."""

import torch
from torch import Tensor

from sa2va.model.losses import LossTerm


def total_loss(terms: dict[str, LossTerm]) -> Tensor:
    """Weighted sum of the means."""
    return torch.stack([term.weight * term.mean for term in terms.values()]).sum()
