"""Check LoRA training on a quantized language model (QLoRA): gradients, frozen codes, and the adapter on any base."""

import copy
from pathlib import Path

import pytest
import torch
from support.small_model import build_model, draw_sample

from sa2va.checkpoints.adapter import merge_adapter
from sa2va.checkpoints.quantize import KINDS, quantize_mllm
from sa2va.model.batch import Batch
from sa2va.model.losses import LossConfig
from sa2va.model.sa2va import Sa2VA
from sa2va.training.lora import add_lora, save_adapter
from sa2va.training.savers import checkpoint_layers

pytest.importorskip("bitsandbytes")
CPU = torch.device("cpu")


def total_loss(model: Sa2VA, batch: Batch) -> torch.Tensor:
    terms = model(batch, LossConfig(num_points=64))
    return torch.stack([term.weight * term.mean for term in terms.values()]).sum()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_learn_on_quantized_weights_and_fit_the_plain_base(
    kind: str, checkpointing: bool, tmp_path: Path
) -> None:
    base, processor = build_model(seed=1)
    batch = processor([draw_sample(0), draw_sample(1)], mask_side=64)
    model = copy.deepcopy(base)
    quantize_mllm(model, kind, CPU)
    add_lora(model, 4)
    model.projector.requires_grad_(True)
    checkpoint_layers(model, enabled=checkpointing)
    codes = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    model.train()
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = total_loss(model, batch)
        loss.backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0], losses
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in codes.items())
    save_adapter(model, tmp_path, "base", torch.float32)
    with torch.no_grad():
        before = total_loss(base, batch)
        merge_adapter(base, tmp_path)
        assert total_loss(base, batch) < 0.9 * before
