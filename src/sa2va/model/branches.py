"""Let several texts share one prefix in a row, each blind to the others.

Flow: Prompts.branches -> attention mask and positions -> TextInput (mllm.py).
Source: rows of several texts that do not see each other, arXiv:2107.02027; a shared prefix is our own.
Shapes: B rows, L tokens. A branch number is 0 in the prefix, 1, 2, ... in branches, -1 in the padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def branch_mask(branches: Tensor, dtype: torch.dtype) -> Tensor:
    """Let branches see the prefix and themselves: (B, L) -> (B, 1, L, L), to be added to attention scores."""
    length = branches.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    visible = past & ((branches[:, None] == branches[:, :, None]) | (branches[:, None] == 0))
    return torch.zeros(visible.shape, dtype=dtype, device=branches.device).masked_fill(
        ~visible, torch.finfo(dtype).min
    )[:, None]


def branch_positions(branches: Tensor, positions: Tensor) -> Tensor:
    """Let every branch go on where the prefix ends: (B, L), positions (B, L) or (3, B, L) -> the same shape."""
    columns = torch.arange(branches.shape[1], device=branches.device).expand_as(branches)
    begins = F.pad(branches[:, 1:] != branches[:, :-1], (1, 0))
    offset = columns - torch.where(begins, columns, 0).cummax(1).values  # places since the branch began
    inside = branches == 0
    next_place = torch.where(inside, positions, -1).amax(-1, keepdim=True) + 1
    # After a picture all three directions of a text go on from the largest of them.
    next_place = next_place if positions.ndim == 2 else next_place.amax(0, keepdim=True)
    return torch.where(inside, positions, next_place + offset)
