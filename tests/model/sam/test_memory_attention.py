"""Compare our memory attention with the library's module."""

from copy import deepcopy

import pytest
import torch
from support.stock_sam2 import SIDE, WIDTH, build_sam2
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import apply_rotary_pos_emb_2d

from sa2va.model import attention
from sa2va.model.sam import memory_attention, sam2
from sa2va.model.sam.edgetam import EdgeTam
from sa2va.model.sam.memory_attention import Memories, can_read, rotation
from sa2va.model.sam.sam2 import Sam2

GRID = SIDE // 16


@pytest.fixture(scope="module")
def model() -> Sam2:
    return build_sam2()


Inputs = tuple[Tensor, list[Memories]]


def draw(number: int, num_maps: int, num_pointer_tokens: int, *, shared: bool) -> Inputs:
    generator = torch.Generator().manual_seed(number)
    length = num_maps * GRID**2 + num_pointer_tokens
    embeds = torch.randn(1 if shared else number, WIDTH, GRID, GRID, generator=generator)
    tokens, positions = (torch.randn(length, number, 64, generator=generator).transpose(0, 1) for _ in range(2))
    return embeds, [Memories(tokens, positions, num_maps, num_pointer_tokens)]


def split(memories: Memories) -> list[Memories]:
    """Take one object at a time, as a CPU does."""
    pairs = zip(memories.tokens.split(1), memories.positions.split(1), strict=True)
    return [memories._replace(tokens=tokens, positions=positions) for tokens, positions in pairs]


def attend_by_reference(model: Sam2, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(sam2, "can_read", lambda attention: False)
        return model.attend(*inputs)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("number", "num_maps", "num_pointer_tokens"), [(1, 1, 0), (3, 7, 32), (5, 2, 2)])
def test_it_equals_the_library(model, monkeypatch, number, num_maps, num_pointer_tokens, shared):
    inputs = draw(number, num_maps, num_pointer_tokens, shared=shared)
    with torch.no_grad():
        found = model.attend(*inputs)
        alone = model.attend(inputs[0], split(*inputs[1]))
    expected = attend_by_reference(model, inputs, monkeypatch)
    assert found.shape == expected.shape == (number, WIDTH, GRID, GRID)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(alone, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_padding_changes_nothing(model, shared):
    """Objects with fewer maps and pointers than others, in one batch with a mask."""
    embeds, (full,) = draw(3, 3, 6, shared=shared)
    sizes, alone, mask = [(3, 6), (2, 6), (1, 0)], [], torch.zeros(full.tokens.shape[:2], dtype=torch.bool)
    for row, (num_maps, num_pointer_tokens) in enumerate(sizes):
        mask[row, : num_maps * GRID**2] = True
        mask[row, 3 * GRID**2 :][:num_pointer_tokens] = True
        tokens, positions = (x[row : row + 1, mask[row]] for x in (full.tokens, full.positions))
        alone.append(Memories(tokens, positions, num_maps, num_pointer_tokens))
    with torch.no_grad():
        found = model.attend(embeds, [full._replace(mask=mask)])
        torch.testing.assert_close(found, model.attend(embeds, alone), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("most", [1, 100, 1000])
def test_the_size_of_a_block_changes_nothing(model, monkeypatch, most):
    inputs = draw(3, 7, 32, shared=True)
    with torch.no_grad():
        expected = model.attend(*inputs)
        monkeypatch.setattr(attention, "SCORES_IN_PARTS", most)
        torch.testing.assert_close(model.attend(*inputs), expected, atol=1e-5, rtol=1e-5)


def test_in_bfloat16_it_strays_no_farther_from_full_precision_than_the_library(monkeypatch):
    model = build_sam2(seed=2)
    inputs = draw(3, 7, 32, shared=True)
    exact = attend_by_reference(model, inputs, monkeypatch)
    model.bfloat16()
    (memories,) = inputs[1]
    memories = memories._replace(tokens=memories.tokens.bfloat16(), positions=memories.positions.bfloat16())
    rounded = inputs[0].bfloat16(), [memories]
    with torch.no_grad():
        ours = (model.attend(*rounded).float() - exact).pow(2).mean()
    theirs = (attend_by_reference(model, rounded, monkeypatch).float() - exact).pow(2).mean()
    assert ours < 1.3 * theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_positions_turn_as_in_the_library(model, dtype):
    native, width = model.native.memory_attention, WIDTH
    cos, sin = native.rotary_emb(native.layer_norm.weight, native.position_ids)
    sides, theta = tuple(native.config.memory_attention_rope_feat_sizes), native.config.rope_parameters["rope_theta"]
    turn, half = (rotation(sides, width, theta, scale, torch.device("cpu")) for scale in (1.0, 0.5))
    assert torch.equal(turn.cos, cos[0]) and torch.equal(turn.sin.abs(), sin[0].abs())
    tokens = torch.randn(2, 3 * len(turn.cos), width).to(dtype)
    own = tokens[:, : len(turn.cos)]
    query, key = apply_rotary_pos_emb_2d(own[:, None], tokens[:, None], cos, sin, 0, repeat_freqs_k=True)
    assert torch.equal(memory_attention._rotate(tokens.clone(), turn), key[:, 0])
    assert torch.equal(memory_attention._rotate(own.clone(), half), query[:, 0] / 2)


def test_the_rotation_is_exact_in_any_precision_and_never_saved(model):
    saved = set(model.state_dict())
    inputs = draw(2, 2, 2, shared=True)
    with torch.inference_mode():
        expected = model.attend(*inputs)
    rounded = deepcopy(model).bfloat16().float()  # rounds the frequencies, which are a buffer of the library's module
    rounded.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(rounded.attend(*inputs), expected)
    assert set(model.state_dict()) == saved


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_traces_without_a_graph_break(model, dtype):
    model, (embeds, (memories,)) = deepcopy(model).to(dtype), draw(2, 2, 2, shared=True)
    memories = memories._replace(tokens=memories.tokens.to(dtype), positions=memories.positions.to(dtype))
    inputs = embeds.to(dtype), split(memories)
    with torch.no_grad():
        expected = model.attend(*inputs)
        torch.compiler.reset()
        found = torch.compile(model.attend, backend="aot_eager", fullgraph=True, dynamic=False)(*inputs)
    limit = 1e-5 if dtype == torch.float32 else 0.1  # traced code takes the fused kernel, which does not round scores
    torch.testing.assert_close(found, expected, atol=limit, rtol=limit)


def test_while_learning_the_library_reads(model, monkeypatch):
    monkeypatch.setattr(sam2, "read_memories", None)
    inputs = draw(2, 1, 2, shared=True)
    tokens = inputs[1][0].tokens.detach().requires_grad_()
    model.attend(inputs[0], [inputs[1][0]._replace(tokens=tokens)]).sum().backward()
    assert tokens.grad.abs().sum() > 0


def test_other_kinds_of_attention_are_left_to_the_library(model):
    assert can_read(model.native.memory_attention)
    assert not can_read(torch.nn.Linear(2, 2))
    assert not issubclass(EdgeTam.NATIVE_CLASS, Sam2.NATIVE_CLASS)
    config = model.native.memory_attention.config
    config.memory_attention_num_attention_heads = 2
    try:
        assert not can_read(model.native.memory_attention)
    finally:
        config.memory_attention_num_attention_heads = 1
