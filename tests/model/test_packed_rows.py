"""Check that rows packed without padding give the states and gradients of padded rows, in every family."""

import pytest
import torch
from support.small_families import build_family
from support.small_model import build_model, draw_sample

from sa2va.model.attention import attend_blockwise
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Sample, Turn

TEXT = Sample(turns=(Turn(question="Is it small ?", answer="It is."),))


def run(model: Sa2VA, batch, *, packed: bool):
    """Return the states (B, L, D) of real tokens and the gradient of their sum to the input embeddings."""
    inputs = model.encode(batch)
    states = model.mllm.run_packed(inputs) if packed else model.mllm.run_text(inputs)
    states = states * batch.attention_mask[..., None]
    model.zero_grad()
    states.square().sum().backward()
    return states.detach(), model.mllm.word_embeddings.grad.clone()


@pytest.mark.parametrize("kind", ["embedded", "internvl_internlm2", "qwen2_5_vl", "qwen3_vl", "llava"])
def test_packed_rows_equal_padded_rows(kind: str) -> None:
    model, processor = build_model(seed=1) if kind == "embedded" else build_family(kind)
    batch = processor([draw_sample(0), TEXT, draw_sample(1, num_frames=3)])
    assert 0 < batch.attention_mask.float().mean() < 1
    for found, wanted in zip(run(model, batch, packed=True), run(model, batch, packed=False), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_packed_sequence_sees_its_own_past_alone(dtype: torch.dtype, window: int | None) -> None:
    lengths, module = (3, 1, 7), torch.nn.Module()
    module.num_key_value_groups = 2
    query, key, value = (torch.randn(1, heads, 11, 8).to(dtype).requires_grad_() for heads in (4, 2, 2))
    found, _ = attend_blockwise(module, query, key, value, None, sequence_lengths=lengths, sliding_window=window)
    ranks = torch.cat([torch.full((length,), rank) for rank, length in enumerate(lengths)])
    seen = (ranks[:, None] == ranks).tril()
    seen = seen if window is None else seen.triu(1 - window)
    wide = [tensor.float().repeat_interleave(2, 1) for tensor in (key, value)]
    wanted = torch.nn.functional.scaled_dot_product_attention(query.float(), *wide, attn_mask=seen).transpose(1, 2)
    tolerance = {"atol": 0.02, "rtol": 0.02} if dtype == torch.bfloat16 else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(found.float(), wanted, **tolerance)
    mine = torch.autograd.grad(found.float().square().sum(), (query, key, value))
    theirs = torch.autograd.grad(wanted.square().sum(), (query, key, value))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=10 * tolerance["atol"], rtol=tolerance["rtol"])
