"""Check that the quick dropout is dropout: its share, its scale, its gradient and its seed."""

import pytest
import torch
from support.small_model import build_model
from torch import nn

from sa2va.training.dropout import QuickDropout
from sa2va.training.lora import add_lora


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_values_are_dropped_with_their_probability_and_scaled(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    given = torch.ones(301, 333, dtype=dtype, requires_grad=True)
    found = QuickDropout(p).train()(given)
    assert found.dtype == dtype and set(found.unique().tolist()) == {0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    dropped = (found == 0).float()
    assert abs(dropped.mean().item() - p) < 0.005
    # Neighbors come from one random number.
    assert abs((dropped[:, 1:] * dropped[:, :-1]).mean().item() - p * p) < 0.005
    found.sum().backward()
    assert torch.equal(given.grad, found.detach())


def test_a_seed_repeats_it_and_prediction_drops_nothing() -> None:
    layer, given = QuickDropout(0.3).train(), torch.ones(1000)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer(given))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(layer.eval()(given), given)


def test_lora_layers_have_it() -> None:
    model, _ = build_model()
    add_lora(model, 2, dropout=0.1)
    kinds = {type(d) for m in model.modules() for d in getattr(m, "lora_dropout", nn.ModuleDict()).values()}
    assert kinds == {QuickDropout}
