"""Compare the pixels and sizes of Qwen pictures with the stock processor."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.small_families import build_config, build_family
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from sa2va.checkpoints.published.qwen_vl import MAX_PIXELS, MIN_PIXELS
from sa2va.model.families.catalog import find_family
from sa2va.model.families.qwen_vl import fit_size, resize_twice
from sa2va.model.pixels import CLIP_MEAN, CLIP_STD

KINDS = {
    "qwen2_5_vl": (CLIP_MEAN, CLIP_STD),
    "qwen3_vl": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@given(st.integers(20, 5000), st.integers(20, 5000), st.sampled_from([28, 32]))
def test_sizes_are_those_of_the_stock_processor(height: int, width: int, grid: int) -> None:
    if max(height, width) <= 200 * min(height, width):
        wanted = smart_resize(height, width, grid, MIN_PIXELS, MAX_PIXELS)
        assert fit_size(height, width, grid, MIN_PIXELS, MAX_PIXELS) == wanted


@pytest.mark.parametrize(
    ("size", "grid", "tokens"), [((250, 500), 28, 512), ((250, 500), 32, 392), ((240, 320), 32, 396)]
)
def test_sizes_of_known_pictures(size: tuple[int, int], grid: int, tokens: int) -> None:
    height, width = resize_twice(np.zeros((*size, 3), np.uint8), grid, MIN_PIXELS, MAX_PIXELS).shape[1:]
    assert (height // grid) * (width // grid) == tokens


@pytest.mark.parametrize("kind", list(KINDS))
def test_patches_are_those_of_the_stock_processor(kind: str) -> None:
    config, (mean, std) = build_config(kind), KINDS[kind]
    vision = config.mllm["vision_config"]
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    ours = find_family(kind).read_picture(picture, config, is_frame=False)
    grid = vision["patch_size"] * vision["spatial_merge_size"]
    resized = resize_twice(picture, grid, config.min_pixels, config.max_pixels).permute(1, 2, 0).numpy()
    stock = Qwen2VLImageProcessorPil(
        do_resize=False,
        patch_size=vision["patch_size"],
        image_mean=list(mean),
        image_std=list(std),
    )(Image.fromarray(resized), return_tensors="pt")
    assert torch.allclose(ours.pixel_values, stock["pixel_values"], atol=1e-6)
    assert list(ours.grid) == stock["image_grid_thw"][0].tolist()
    assert ours.num_tokens == len(ours.pixel_values) // vision["spatial_merge_size"] ** 2


def test_frames_of_a_clip_are_pictures_of_their_own() -> None:
    _, processor = build_family("qwen3_vl")
    clip = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    frames = processor.read_pictures(clip)
    alone = [processor.read_pictures(clip[k : k + 1])[0] for k in range(3)]
    assert all(torch.equal(a.pixel_values, b.pixel_values) for a, b in zip(frames, alone, strict=True))


def test_a_picture_like_a_thread_is_refused() -> None:
    with pytest.raises(ValueError, match="3000 x 10 px is too narrow; crop it"):
        resize_twice(np.zeros((10, 3000, 3), np.uint8), 28, MIN_PIXELS, MAX_PIXELS)
