"""Check that memory savers leave gradients as they are, and save what they say."""

import pytest
import torch
from support.small_families import build_family
from support.small_model import build_model, draw_sample
from torch.autograd.graph import saved_tensors_hooks

from sa2va.model.batch import Batch
from sa2va.model.losses import LossConfig
from sa2va.model.sa2va import Sa2VA
from sa2va.training.lora import add_lora
from sa2va.training.savers import checkpoint_layers, halve_frozen


def learn(model: Sa2VA, batch: Batch, *, autocast: bool = False) -> tuple[dict[str, torch.Tensor], int]:
    """Return the gradients by name, and the bytes that the forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    with saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = model(batch, LossConfig(num_points=64))
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    sum(term.weight * term.mean for term in terms.values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sum(kept.values())


@pytest.mark.parametrize("kind", ["embedded", "internvl_internlm2", "qwen3_vl"])
@pytest.mark.parametrize("trained", ["everything", "lora"])
def test_checkpointing_gives_the_same_gradients_with_less_memory(kind: str, trained: str) -> None:
    model, processor = build_model(seed=1) if kind == "embedded" else build_family(kind)
    if trained == "lora":
        add_lora(model, 4, dropout=0.2)
        model.sam2.native.mask_decoder.requires_grad_(True)
    model.train()
    batch = processor([draw_sample(0), draw_sample(1, num_frames=2)], mask_side=64)
    plain, kept = learn(model, batch)
    assert checkpoint_layers(model, enabled=True)
    saving, kept_less = learn(model, batch)
    assert kept_less < 0.7 * kept, (kept_less, kept)
    assert plain.keys() == saving.keys() and any("lora" in name for name in plain) == (trained == "lora")
    for name, gradient in plain.items():
        torch.testing.assert_close(saving[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
    checkpoint_layers(model, enabled=False)
    assert learn(model, batch)[1] == kept


def test_frozen_matrices_in_half_precision_change_no_gradient_under_autocast() -> None:
    model, processor = build_model(seed=1)
    add_lora(model, 4)
    model.train()
    batch = processor([draw_sample(0), draw_sample(1)], mask_side=64)
    before = sum(parameter.nbytes for parameter in model.parameters())
    plain, _ = learn(model, batch, autocast=True)
    saved = halve_frozen(model)
    assert 0 < saved == before - sum(parameter.nbytes for parameter in model.parameters())
    halved, _ = learn(model, batch, autocast=True)
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    for name, gradient in plain.items():
        torch.testing.assert_close(halved[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
