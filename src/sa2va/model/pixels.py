"""Normalize pictures with the mean and standard deviation of an image encoder's training.

Flow: uint8 frames -> normalize -> families/, processor.py (SAM 2).
Shapes: F pictures, H W their size.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalize(pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalize uint8 (F, H, W, 3) to float32 (F, 3, H, W)."""
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    shift, scale = (values.new_tensor(each)[:, None, None] for each in (mean, std))
    return (values - shift) / scale
