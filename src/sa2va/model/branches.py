"""Build attention masks and positions for several branches that share one prefix in a row.

Flow: Prompts.branches -> attention mask and positions -> TextInput (mllm.py).
Source: sequence packing without cross-contamination, arXiv:2107.02027; the shared prefix is our own.
Shapes: B rows, L tokens. A branch number is 0 in the prefix, 1, 2, ... in branches, PADDING in the padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1  # branch number of padding


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Build an attention mask that every implementation adds to the scores: bool -> 0 or the lowest number."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def branch_mask(branches: Tensor, dtype: torch.dtype) -> Tensor:
    """Build the additive attention mask: a branch sees the prefix and itself, (B, L) -> (B, 1, L, L)."""
    length = branches.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    visible = past & ((branches[:, None] == branches[:, :, None]) | (branches[:, None] == 0))
    return additive_mask(visible[:, None], dtype)


def branch_positions(branches: Tensor, positions: Tensor) -> Tensor:
    """Restart the positions of each branch after the prefix: (B, L), positions (B, L) or (3, B, L) -> same shape."""
    columns = torch.arange(branches.shape[1], device=branches.device).expand_as(branches)
    begins = F.pad(branches[:, 1:] != branches[:, :-1], (1, 0))
    offset = columns - torch.where(begins, columns, 0).cummax(1).values  # tokens since the branch began
    inside = branches == 0
    next_position = torch.where(inside, positions, -1).amax(-1, keepdim=True) + 1
    # M-RoPE: text after a picture continues all three axes from their maximum.
    next_position = next_position if positions.ndim == 2 else next_position.amax(0, keepdim=True)
    return torch.where(inside, positions, next_position + offset)
