"""Drive the InternVL family: tiles, prompt text, native model.

Flow: picture -> tiles -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: InternVL2.5, arXiv:2412.05271 (dynamic tiling, 256 tokens a tile); Sa2VA, arXiv:2501.04001 (frames of a
    clip are single tiles, joined by newlines).
Shapes: P tiles, s side of a tile in px, H W picture, D width, V visual tokens.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration

from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.base import MllmFamily
from sa2va.model.families.protocol import Picture, VisualTokens
from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize

IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"
BASE_TOKENS = (IMAGE_START, IMAGE_END, IMAGE_TOKEN, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")


class InternVL(MllmFamily):
    """InternVL2.5 and InternVL3, with any of their language models."""

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
        """Cut a picture (H, W, 3) into tiles; a frame of a clip is a single one.

        The released code takes a tile whose normalized pixels sum to exactly 0 for padding, and then lacks its visual
        tokens; here such a tile counts like any other.
        """
        tiles = split_tiles(picture, config.tile_size, 1 if is_frame else config.max_tiles)
        return Picture(normalize(tiles, self.pixel_mean, self.pixel_std), len(tiles) * config.tokens_per_tile)

    def image_block(self, num_tokens: int) -> str:
        """Return the prompt text that stands for one picture or frame."""
        return IMAGE_START + IMAGE_TOKEN * num_tokens + IMAGE_END

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode tiles (P, 3, s, s), whose grids are all alike."""
        output = mllm.model.get_image_features(pixel_values=pixel_values, return_dict=True)
        return VisualTokens(output.pooler_output.flatten(0, 1))  # (P, tokens, D) -> (V, D)


def choose_grid(width: int, height: int, max_tiles: int, tile_size: int) -> tuple[int, int]:
    """Return (columns, rows) whose aspect ratio is closest to the picture's.

    On a tie the larger grid wins only where the picture has more than half of that grid's pixels.
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
    """Cut a picture into tiles, a thumbnail of the whole last where there is more than one.

    Args:
        picture: (H, W, 3) RGB.
        tile_size: s, px.
        max_tiles: 1 squeezes the whole picture into one tile, as for the frames of a clip.

    Returns:
        uint8 (P, s, s, 3).
    """
    image = Image.fromarray(picture)
    columns, rows = choose_grid(image.width, image.height, max_tiles, tile_size)
    # PIL's own bicubic: the tensor resize of the stock processor gives other pixels than the training had.
    resized = np.asarray(image.resize((tile_size * columns, tile_size * rows), Image.Resampling.BICUBIC))
    tiles = [
        resized[row * tile_size : (row + 1) * tile_size, column * tile_size : (column + 1) * tile_size]
        for row in range(rows)
        for column in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(np.asarray(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC)))
    return np.stack(tiles)
