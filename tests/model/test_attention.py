"""Compare blockwise attention with the library's, and check when it falls back to it."""

import pytest
import torch
from support.stock_sam2 import SIDE, build_sam2
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sa2va.model import attention
from sa2va.model.attention import BLOCKWISE, attend, attend_blockwise


class Layer(nn.Module):
    """Minimal module with the attributes that the library's attention reads."""

    is_causal = False
    num_key_value_groups = 1


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float32).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("most", [1, 50, 2**22])
@pytest.mark.parametrize(("number", "queries", "keys"), [(1, 7, 12), (6, 16, 16), (3, 1, 5)])
def test_blocks_of_any_size_average_alike(monkeypatch, dtype, most, number, queries, keys):
    monkeypatch.setattr(attention, "SCORES_TOGETHER", most)
    monkeypatch.setattr(attention, "SCORES_IN_ROWS", most)
    monkeypatch.setattr(attention, "SCORES_IN_PARTS", most)
    monkeypatch.setattr(attention, "ROWS_OF_PARTS", min(most, 3))
    query, key, value = (draw(number, n, d, dtype=dtype) for n, d in ((queries, 8), (keys, 8), (keys, 3)))
    expected = torch.softmax(query @ key.transpose(1, 2), -1) @ value
    torch.testing.assert_close(attend(query, key, value), expected)


@pytest.mark.parametrize(("number", "queries", "keys", "width"), [(5, 48, 48, 24), (3, 64, 900, 64), (1, 257, 96, 16)])
def test_one_by_one_and_together_are_equal_bit_for_bit(monkeypatch, number, queries, keys, width):
    query, key, value = draw(number, queries, width), draw(number, keys, width), draw(number, keys, width // 2)
    expected = torch.softmax(query @ key.transpose(1, 2), -1) @ value
    for together in (1, 2 * queries * keys, number * queries * keys):
        monkeypatch.setattr(attention, "SCORES_TOGETHER", together)
        assert torch.equal(attend(query, key, value), expected)


def test_scores_of_any_size_are_averaged(monkeypatch):
    monkeypatch.setattr(attention, "SCORES_IN_PARTS", 2**14)
    query, key, value = (draw(2, n, 8, dtype=torch.float32) for n in (40, 3000, 3000))
    key *= torch.linspace(1, 300, 3000)[:, None]  # scores up to a thousand: the largest comes late
    expected = torch.softmax(query @ key.transpose(1, 2), -1) @ value
    torch.testing.assert_close(attend(query, key, value), expected)


@pytest.mark.parametrize("shape", [(2, 3, 64, 16), (5, 1, 9, 24)])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_one_layer_strays_little_farther_than_the_librarys_kernel(shape, scaling):
    exact = [draw(*shape, dtype=torch.float32) * (2 if n < 2 else 1) for n in range(3)]
    rounded = [part.bfloat16() for part in exact]
    with torch.no_grad():
        expected, _ = sdpa_attention_forward(Layer(), *exact, None, scaling=scaling)
        theirs, _ = sdpa_attention_forward(Layer(), *rounded, None, scaling=scaling)
        ours, weights = attend_blockwise(Layer(), *rounded, None, scaling=scaling)
    assert weights is None and ours.shape == theirs.shape and ours.is_contiguous()
    assert (ours - expected).pow(2).mean() < 2.5 * (theirs - expected).pow(2).mean()


@pytest.mark.parametrize("rows", [4, 7, 128])
@pytest.mark.parametrize(("heads", "groups", "length"), [(6, 2, 21), (4, 4, 8), (3, 1, 1)])
def test_causal_attention_in_blocks_strays_little_farther_than_the_librarys(monkeypatch, rows, heads, groups, length):
    monkeypatch.setattr(attention, "CAUSAL_ROWS", rows)
    layer = Layer()
    layer.is_causal, layer.num_key_value_groups = True, heads // groups
    exact = [draw(2, number, length, 16, dtype=torch.float32) for number in (heads, groups, groups)]
    rounded = [part.bfloat16() for part in exact]
    with torch.no_grad():
        expected, _ = sdpa_attention_forward(layer, *exact, None)
        theirs, _ = sdpa_attention_forward(layer, *rounded, None)
        ours, _ = attend_blockwise(layer, *rounded, None)
    assert ours.shape == theirs.shape and ours.is_contiguous()
    assert (ours - expected).pow(2).mean() <= 4 * (theirs - expected).pow(2).mean()


def test_full_precision_masks_and_learning_are_the_librarys(monkeypatch):
    monkeypatch.setattr(attention, "attend", None)
    full, rounded = draw(1, 2, 8, 8, dtype=torch.float32), draw(1, 2, 8, 8)
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    attend_blockwise(Layer(), *(rounded.clone().requires_grad_() for _ in range(3)), None)
    with torch.no_grad():
        for query, seen in ((full, None), (rounded, mask)):
            found, _ = attend_blockwise(Layer(), query, query, query, seen)
            expected, _ = sdpa_attention_forward(Layer(), query, query, query, seen)
            assert torch.equal(found, expected)


def test_sam2_sees_in_blocks():
    sam2 = build_sam2().bfloat16()
    assert sam2.native.vision_encoder.config._attn_implementation == BLOCKWISE
    frames = draw(2, 3, SIDE, SIDE)
    with torch.no_grad():
        found = sam2.encode_frames(frames).embeds
        sam2.native.vision_encoder.set_attn_implementation("sdpa")
        expected = sam2.encode_frames(frames).embeds
        exact = sam2.float().encode_frames(frames.float()).embeds
    assert (found - exact).pow(2).mean() < 1.3 * (expected - exact).pow(2).mean()


TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_groups_attend_as_the_stock_implementation(dtype: torch.dtype, number: int, masked: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 3, True
    query, length = torch.randn(2, 6, number, 8, dtype=dtype), 11 if number == 1 or masked else number
    key, value = torch.randn(2, 2, 2, length, 8, dtype=dtype)
    mask = torch.zeros(2, 1, number, length, dtype=dtype)
    mask[0, :, :, :4] = torch.finfo(dtype).min
    inputs = (layer, query, key, value, mask if masked else None)
    found, wanted = attend_blockwise(*inputs, scaling=0.4)[0], sdpa_attention_forward(*inputs, scaling=0.4)[0]
    assert found.shape == wanted.shape == (2, number, 6, 8)
    assert torch.allclose(found, wanted, atol=TOLERANCE[dtype])
    if (number > 1 and masked) or (dtype == torch.float32 and not masked):
        assert torch.equal(found, wanted)
