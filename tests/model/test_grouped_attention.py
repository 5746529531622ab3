"""Check that queries in groups attend as the stock implementation does."""

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sa2va.model.grouped_attention import attend_grouped

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
    found, wanted = attend_grouped(*inputs, scaling=0.4)[0], sdpa_attention_forward(*inputs, scaling=0.4)[0]
    assert found.shape == wanted.shape == (2, number, 6, 8)
    assert torch.allclose(found, wanted, atol=TOLERANCE[dtype])
    if number > 1 or (dtype == torch.float32 and not masked):
        assert torch.equal(found, wanted)
