"""Normalize pictures with the mean and standard deviation of an image encoder's training.

Flow: uint8 frames -> normalize -> families/ (on the host), processor.py and inference/tracking (SAM 2, on its device).
Shapes: F pictures, H W their size.
"""

from functools import lru_cache

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# The released model normalizes SAM 2's pixels with constants rounded to bfloat16, whatever its dtype.
_ROUNDED = torch.tensor((IMAGENET_MEAN, IMAGENET_STD), dtype=torch.float32, device="cpu").bfloat16()
SAM_MEAN, SAM_STD = (tuple(row) for row in _ROUNDED.tolist())


def normalize(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalize uint8 (F, H, W, 3) to float32 (F, 3, H, W), channels last in memory."""
    number, height, width, channels = pixels.shape
    values = pixels.contiguous().float()
    rows = values.view(number * height, width * channels)  # channels alone are too short for vector instructions
    most, shift, scale = _repeat(mean, std, width, pixels.device)
    rows.div_(most).sub_(shift).div_(scale)
    return values.permute(0, 3, 1, 2)


@lru_cache(maxsize=32)
def _repeat(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device) -> tuple[Tensor, ...]:
    """Return 255, mean and standard deviation of each value of a row, 3 of (3 W,).

    Tensors, since a GPU multiplies by the reciprocal of a number instead of dividing by it, which rounds differently.
    """
    with torch.inference_mode(False):
        rows = ((255.0,) * len(mean) * width, mean * width, std * width)
        return torch.tensor(rows, dtype=torch.float32, device=device).unbind()
