"""Drive the InternVL family: configuration, pixels and prompt text.

Flow: picture -> tiles -> pixel_values; text -> chat template with one block of image tokens per frame.
Source: InternVL2.5, arXiv:2412.05271 (dynamic tiling, 256 tokens a tile); Sa2VA, arXiv:2501.04001 (frames of a
    clip are single tiles, joined by newlines, and no system turn is ever written).
Shapes: P tiles, s side of a tile in px, H W picture.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration

IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"
BASE_TOKENS = (IMAGE_START, IMAGE_END, IMAGE_TOKEN, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

PIXEL_MEAN = (0.485, 0.456, 0.406)  # ImageNet
PIXEL_STD = (0.229, 0.224, 0.225)


def build_mllm(config: dict[str, Any]) -> InternVLForConditionalGeneration:
    """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
    return InternVLForConditionalGeneration(InternVLConfig(**config))


def language_model(mllm: InternVLForConditionalGeneration) -> nn.Module:
    """Return the text model; its last hidden state, after the final norm, is what [SEG] is read from."""
    return mllm.model.language_model


def encode_images(mllm: InternVLForConditionalGeneration, pixel_values: Tensor) -> Tensor:
    """Return the visual tokens, in the text model's space, of each tile: (P, 3, s, s) -> (P, tokens, D)."""
    return mllm.model.get_image_features(pixel_values=pixel_values, return_dict=True).pooler_output


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


def image_block(num_tiles: int, tokens_per_tile: int) -> str:
    """Return the prompt text that stands for one picture or frame."""
    return IMAGE_START + IMAGE_TOKEN * (num_tiles * tokens_per_tile) + IMAGE_END
