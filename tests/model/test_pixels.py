"""Check that normalized pixels equal their definition to the last bit, for any layout of the input."""

import pytest
import torch

from sa2va.model.pixels import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, SAM_MEAN, SAM_STD, normalize

LEVELS = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("mean", "std"), [(IMAGENET_MEAN, IMAGENET_STD), (CLIP_MEAN, CLIP_STD), (SAM_MEAN, SAM_STD)], ids=str
)
@pytest.mark.parametrize("layout", ["whole", "cut", "planes"])
def test_every_level_is_normalized_to_the_last_bit(
    mean: tuple[float, ...], std: tuple[float, ...], layout: str
) -> None:
    pixels = torch.stack([LEVELS, LEVELS.flip(0), LEVELS.roll(99)], -1).view(1, 8, 32, 3).repeat(2, 1, 1, 1)
    if layout == "cut":
        pixels = pixels[:, 1:, 3:19]
    if layout == "planes":
        pixels = pixels.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    values = normalize(pixels, mean, std)
    planes = pixels.permute(0, 3, 1, 2).float()
    shift, scale = (torch.tensor(each)[:, None, None] for each in (mean, std))
    assert torch.equal(values, (planes / 255 - shift) / scale)
    assert values.is_contiguous(memory_format=torch.channels_last) and values.dtype == torch.float32


def test_the_constants_of_sam2_are_those_of_the_released_model() -> None:
    for ours, exact in ((SAM_MEAN, IMAGENET_MEAN), (SAM_STD, IMAGENET_STD)):
        assert torch.equal(torch.tensor(ours), torch.tensor(exact).bfloat16().float())
