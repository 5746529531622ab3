"""Implement the InternVL family: tiles, prompt text, native model.

Flow: picture -> tiles -> Picture -> encode_images (base.py); TextInput -> run_text -> states -> logits.
Source: InternVL2.5, arXiv:2412.05271 (dynamic tiling, 256 tokens per tile); Sa2VA, arXiv:2501.04001 (one tile per
    frame of a clip, frames joined by newlines).
Shapes: P tiles, s side of a tile in px, H W picture, D width, V visual tokens.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration

from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.base import MllmFamily
from sa2va.model.families.protocol import Picture
from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize

IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"
BASE_TOKENS = (IMAGE_START, IMAGE_END, IMAGE_TOKEN, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")


class InternVL(MllmFamily):
    """InternVL2.5 and InternVL3 with any of their language models."""

    image_token = IMAGE_TOKEN
    takes_regions = True
    pixel_mean, pixel_std = IMAGENET_MEAN, IMAGENET_STD
    layer_names = {
        ("text_config", "num_hidden_layers"): "model.language_model.layers.",
        ("vision_config", "num_hidden_layers"): "model.vision_tower.encoder.layer.",
    }

    def build_mllm(self, config: dict[str, Any]) -> InternVLForConditionalGeneration:
        """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
        return InternVLForConditionalGeneration(InternVLConfig(**config))

    def read_picture(self, picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
        """Cut a picture (H, W, 3) into tiles; a frame of a clip becomes a single tile.

        The released code treats a tile whose normalized pixels sum to exactly 0 as padding and drops its visual
        tokens; here they are kept.
        """
        tiles = torch.from_numpy(split_tiles(picture, config.tile_size, 1 if is_frame else config.max_tiles))
        return Picture(normalize(tiles, self.pixel_mean, self.pixel_std), len(tiles) * config.tokens_per_tile)

    def image_block(self, num_tokens: int) -> str:
        """Return the image tokens of one picture or frame, with delimiters."""
        return IMAGE_START + IMAGE_TOKEN * num_tokens + IMAGE_END


def choose_grid(width: int, height: int, max_tiles: int, tile_size: int) -> tuple[int, int]:
    """Return (columns, rows) whose aspect ratio is closest to the picture's.

    On a tie the larger grid wins only if the picture has more than half as many pixels as that grid.
    """
    sides = range(1, max_tiles + 1)
    grids = sorted({(i, j) for i in sides for j in sides if i * j <= max_tiles}, key=lambda g: (g[0] * g[1], g))
    best, best_gap = (1, 1), float("inf")
    for columns, rows in grids:
        gap = abs(width / height - columns / rows)
        fills = width * height > 0.5 * tile_size**2 * columns * rows
        if gap < best_gap or (gap == best_gap and fills):
            best, best_gap = (columns, rows), gap
    return best


def split_tiles(picture: NDArray[np.uint8], tile_size: int, max_tiles: int) -> NDArray[np.uint8]:
    """Cut a picture into tiles; append a thumbnail of the whole picture when there is more than one.

    Args:
        picture: (H, W, 3) RGB.
        tile_size: s, px.
        max_tiles: 1 resizes the whole picture to one tile, as for the frames of a clip.

    Returns:
        uint8 (P, s, s, 3).
    """
    image = Image.fromarray(picture)
    columns, rows = choose_grid(image.width, image.height, max_tiles, tile_size)
    # PIL's bicubic, as in the released training; the tensor resize of the stock processor gives other pixels.
    resized = np.asarray(image.resize((tile_size * columns, tile_size * rows), Image.Resampling.BICUBIC))
    tiles = [
        resized[row * tile_size : (row + 1) * tile_size, column * tile_size : (column + 1) * tile_size]
        for row in range(rows)
        for column in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(np.asarray(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC)))
    return np.stack(tiles)
