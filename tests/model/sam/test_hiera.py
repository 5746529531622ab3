"""Compare the image encoder with Transformers', whose layers it runs in another order."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers import Sam2VisionModel
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleBlock

from sa2va.checkpoints.sam2_sizes import SIZES, sam2_config
from sa2va.model.sam import hiera
from sa2va.model.sam.hiera import WindowBlock, WindowEncoder, use_window_order
from sa2va.model.sam.sam2 import Sam2

FITTING, PADDED = (
    256,
    192,
)  # px: hiera-large's windows divide the grids of the first; 14 and 16 do not those of the second


def build_encoder(name: str, side: int = FITTING) -> Sam2VisionModel:
    """Build an encoder of a published size, reduced in depth and width, with random weights."""
    size = SIZES[name]
    size = replace(
        size,
        embed_dim=8 * size.num_heads,
        stages=(1, 2, 3, 2),
        global_att_blocks=(4,),
        image_size=side,
        d_model=32,
    )
    torch.manual_seed(0)
    encoder = Sam2(sam2_config(size)).native.vision_encoder
    assert isinstance(encoder, WindowEncoder)
    for parameter in encoder.parameters():
        if parameter.ndim != 2:  # biases and positions start as zeros, norms as ones
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def draw_pixels(side: int = FITTING, num_pictures: int = 2) -> Tensor:
    return torch.randn(num_pictures, 3, side, side, generator=torch.Generator().manual_seed(1))


def encode_stock(encoder: Sam2VisionModel, pixels: Tensor) -> Sequence[Tensor]:
    """Run the library's forward passes with the same modules."""
    blocks = encoder.backbone.blocks
    encoder.__class__ = Sam2VisionModel
    for block in blocks:
        block.__class__ = Sam2MultiScaleBlock
    try:
        return encoder(pixels, return_dict=True).fpn_hidden_states
    finally:
        use_window_order(encoder)


def encode_maps(encoder: Sam2VisionModel, pixels: Tensor) -> Sequence[Tensor]:
    return encoder(pixels).fpn_hidden_states


@pytest.mark.parametrize("part", [1, 400, 2**22])
@pytest.mark.parametrize("side", [FITTING, PADDED])
@pytest.mark.parametrize("name", SIZES)
def test_maps_equal_the_librarys(monkeypatch: pytest.MonkeyPatch, name: str, side: int, part: int) -> None:
    monkeypatch.setattr(hiera, "TOKEN_BYTES_IN_PART", part)
    encoder, pixels = build_encoder(name, side), draw_pixels(side)
    with torch.no_grad():
        expected, found = encode_stock(encoder, pixels), encode_maps(encoder, pixels)
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("side", [FITTING, PADDED])
@pytest.mark.parametrize("name", SIZES)
def test_bfloat16_is_as_exact_as_the_librarys(name: str, side: int) -> None:
    encoder, pixels = build_encoder(name, side), draw_pixels(side)
    with torch.no_grad():
        exact = encode_stock(encoder, pixels)
        encoder.bfloat16()
        expected, found = encode_stock(encoder, pixels.bfloat16()), encode_maps(encoder, pixels.bfloat16())
    for ours, theirs, true in zip(found, expected, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - true).abs().mean() <= 1.05 * (theirs - true).abs().mean()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", [FITTING, PADDED])
def test_gradients_equal_the_librarys(side: int, attention: str) -> None:
    encoder, pixels = build_encoder("large", side).train(), draw_pixels(side)
    encoder.set_attn_implementation(attention)
    gradients = []
    for encode in (encode_stock, encode_maps):
        encoder.zero_grad()
        sum(feature.square().mean() for feature in encode(encoder, pixels)).backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()), msg=name
        )


class Operations(TorchDispatchMode):
    """Count dispatched operations but for views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def count_operations(encode, encoder: Sam2VisionModel) -> list[str]:
    """List the operations of one encoding where nothing is done in parts, as on a GPU."""
    with Operations() as seen:  # a CPU does not split what requires gradients either
        encode(encoder, draw_pixels().requires_grad_())
    return seen.names


def test_fewer_operations_and_nothing_read_by_the_host() -> None:
    encoder = build_encoder("large").requires_grad_(False)
    theirs, ours = (count_operations(encode, encoder) for encode in (encode_stock, encode_maps))
    assert len(ours) < 0.6 * len(theirs), (len(ours), len(theirs))
    assert not [name for name in ours if "_local_scalar_dense" in name or "nonzero" in name or "softmax" in name]


@pytest.mark.parametrize("side", [FITTING, PADDED])
def test_traces_without_a_graph_break(side: int) -> None:
    encoder, pixels = build_encoder("large", side).requires_grad_(False), draw_pixels(side)
    compiled = torch.compile(encode_maps, backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        for ours, theirs in zip(compiled(encoder, pixels), encode_maps(encoder, pixels), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_checkpointing_runs_each_block_again_and_keeps_the_gradients() -> None:
    encoder, pixels = build_encoder("large").train(), draw_pixels()
    gradients, calls = [], 0

    def count(*call: object) -> None:
        nonlocal calls
        calls += 1

    hooks = [block.mlp.register_forward_pre_hook(count) for block in encoder.backbone.blocks]
    assert all(isinstance(block, WindowBlock) for block in encoder.backbone.blocks)
    for expected in (len(hooks), 2 * len(hooks)):
        encoder.zero_grad()
        sum(feature.square().mean() for feature in encode_maps(encoder, pixels)).backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
        assert calls == expected
        calls = 0
        for block in encoder.backbone.blocks:
            block.gradient_checkpointing = True
            block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    torch.testing.assert_close(gradients[0], gradients[1])
