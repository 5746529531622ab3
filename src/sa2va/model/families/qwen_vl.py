"""Define the base class of Qwen2.5-VL and Qwen3-VL: native resolution, 3D rotary positions.

Flow: picture -> two resizes -> patches -> Picture; QwenVL -> one subclass per family.
Source: Qwen2.5-VL, arXiv:2502.13923 (native resolution, M-RoPE); the released Sa2VA inference code, which resizes
    with qwen-vl-utils first and with the stock processor again.
Shapes: H W picture, p patch side in px, m patches merged into a token along each side, B samples, L tokens.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sa2va.model.config import MAX_PIXELS, Sa2VAConfig
from sa2va.model.families.base import MllmFamily
from sa2va.model.families.protocol import Picture

IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
MAX_ASPECT = 200  # longer side over shorter side
_FIRST_GRID = 28  # px; the first resize rounds sides to multiples of it, whatever the model's patch size
_FIRST_MIN_PIXELS = 4 * 28 * 28


class QwenVL(MllmFamily):
    """Base of Qwen2.5-VL and later.

    The published models were not trained with marked regions. The released code accepts regions and silently ignores
    them; here they are refused.
    """

    image_token = IMAGE_TOKEN
    picture_joint = ""
    takes_any_size = True
    layer_names = {
        ("text_config", "num_hidden_layers"): "model.language_model.layers.",
        ("vision_config", "depth"): "model.visual.blocks.",
    }

    def read_picture(self, picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
        """Resize a picture (H, W, 3) and cut it into patches; frames of a clip are treated alike."""
        vision = config.mllm["vision_config"]
        patch, merge = vision["patch_size"], vision["spatial_merge_size"]
        pixels = resize_twice(picture, patch * merge, config.min_pixels, config.max_pixels).float()
        # Mean and deviation are scaled instead of the pixels, as in the stock processor, for bitwise equal results.
        shift, scale = (pixels.new_tensor(each)[:, None, None] * 255 for each in (self.pixel_mean, self.pixel_std))
        patches = split_patches((pixels - shift) / scale, patch, merge, vision["temporal_patch_size"])
        rows, columns = (side // patch for side in pixels.shape[1:])
        return Picture(patches, rows * columns // merge**2, (1, rows, columns))

    def image_block(self, num_tokens: int) -> str:
        """Return the image tokens of one picture or frame, with delimiters."""
        return IMAGE_START + IMAGE_TOKEN * num_tokens + IMAGE_END

    def vision_tower(self, mllm: Any) -> nn.Module:
        """Return the image encoder, which contains the projector."""
        return mllm.model.visual

    def vision_projector(self, mllm: Any) -> nn.Module:
        """Return the projector from image encoder states to visual tokens."""
        visual = mllm.model.visual
        return nn.ModuleList([visual.merger, *getattr(visual, "deepstack_merger_list", ())])

    def positions(self, mllm: Any, input_ids: Tensor, attention_mask: Tensor, grids: Tensor) -> Tensor:
        """Compute 3D position ids (time, row, column): (3, B, L). The three ids of a text token are equal."""
        is_image = input_ids.eq(mllm.config.image_token_id).int()
        positions, _ = mllm.model.get_rope_index(
            input_ids, mm_token_type_ids=is_image, image_grid_thw=grids, attention_mask=attention_mask
        )
        return positions


def fit_size(height: int, width: int, grid: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return the (height, width) nearest to the picture's: multiples of `grid`, area within the bounds, px."""
    rows, columns = max(1, round(height / grid)), max(1, round(width / grid))
    if rows * columns * grid**2 > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / grid)) for side in (height, width))
    elif rows * columns * grid**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / grid) for side in (height, width))
    return rows * grid, columns * grid


def resize_twice(picture: NDArray[np.uint8], grid: int, min_pixels: int, max_pixels: int) -> Tensor:
    """Resize (H, W, 3) as the released code does: uint8 (3, h, w), both sides multiples of `grid`.

    The first resize is PIL's, the second torch's on uint8. Their roundings differ.

    Raises:
        ValueError: the aspect ratio exceeds MAX_ASPECT.
    """
    height, width = picture.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"a picture of {width} x {height} px is too narrow; crop it to at most {MAX_ASPECT} : 1")
    height, width = fit_size(height, width, _FIRST_GRID, _FIRST_MIN_PIXELS, MAX_PIXELS)
    first = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    size = fit_size(height, width, grid, min_pixels, max_pixels)
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(first, -1, 0)))  # (h, w, 3) -> (3, h, w)
    return F.interpolate(planes[None], size, mode="bicubic", antialias=True)[0]


def split_patches(pixels: Tensor, patch: int, merge: int, repeats: int) -> Tensor:
    """Cut (3, h, w) into patches, grouped by the token they are merged into: (patches, 3 * repeats * p * p).

    Args:
        pixels: both sides multiples of patch * merge.
        patch: p, px.
        merge: m.
        repeats: number of copies of a still picture along time.
    """
    rows, columns = (side // (patch * merge) for side in pixels.shape[1:])
    cut = pixels.reshape(3, rows, merge, patch, columns, merge, patch)
    cut = cut.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]  # (rows, columns, m, m, 3, 1, p, p)
    return cut.expand(-1, -1, -1, -1, -1, repeats, -1, -1).reshape(rows * columns * merge**2, -1)
