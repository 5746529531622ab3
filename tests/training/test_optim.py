"""The schedule, the groups, the clipping and the averaged weights are what they say, number by number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sa2va.training.optim import (
    Ema,
    build_optimizer,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    schedule_factor,
    set_lr,
)
from sa2va.training.stage import StageConfig

CONFIG = StageConfig(name="s", steps=10, batch_size=1, lr=0.1, weight_decay=0.2)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),
        (1, 0.5),
        (3, 1.0),
        (4, 1.0),
        (54, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 50 / 95))),
        (99, 0.1),
        (150, 0.1),
    ],
)
def test_schedule_values(step, expected):
    assert schedule_factor(step, steps=100, warmup_steps=4, min_lr_ratio=0.1) == pytest.approx(expected)


@given(steps=st.integers(1, 500), warmup=st.integers(0, 600), floor=st.floats(0, 1))
def test_schedule_rises_then_falls_within_its_bounds(steps, warmup, floor):
    factors = [schedule_factor(s, steps=steps, warmup_steps=warmup, min_lr_ratio=floor) for s in range(steps)]
    top = factors.index(max(factors))
    assert all(0 < f + 1e-9 and f <= 1 for f in factors)
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert min(factors[top:]) >= floor - 1e-9


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight
        self.conv = nn.Conv2d(3, 4, 2)
        self.norm = nn.LayerNorm(4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_only_matrices_decay():
    model = Parts()
    groups = parameter_groups(model, model.parameters(), CONFIG)
    decay = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decay == {
        "conv.weight": 0.2,
        "conv.bias": 0.0,
        "embed.weight": 0.0,
        "head.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "cls_token": 0.0,
    }


def test_groups_keep_their_own_rates():
    model = Parts()
    groups = [
        {"params": model.conv.parameters(), "lr_scale": 0.5},
        {"params": model.norm.parameters(), "lr": 3.0},
        {"params": model.head.parameters(), "weight_decay": 0.0},
    ]
    optimizer = build_optimizer(model, groups, CONFIG)
    set_lr(optimizer, 0.5)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["conv.weight"] == rates["conv.bias"] == pytest.approx(0.025)
    assert rates["norm.bias"] == pytest.approx(1.5)
    assert rates["head.bias"] == rates["embed.weight"] == pytest.approx(0.05)


def test_foreign_or_only_frozen_parameters_are_our_mistake():
    model = Parts()
    with pytest.raises(AssertionError, match="not in module"):
        parameter_groups(model, nn.Linear(2, 2).parameters(), CONFIG)
    with pytest.raises(AssertionError, match="nothing to train"):
        parameter_groups(model, model.frozen.parameters(), CONFIG)


@pytest.mark.parametrize(("limit", "after"), [(1.0, 1.0), (0.0, 5.0), (10.0, 5.0)])
def test_clipping_returns_the_norm_before(limit, after):
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([weight], limit).item() == pytest.approx(5.0)
    assert weight.grad.norm().item() == pytest.approx(after, rel=1e-4)


def test_ema_arithmetic():
    weight = nn.Parameter(torch.tensor([0.0]))
    ema = Ema({"w": weight}, decay=0.5)
    expected = 0.0
    for update in range(1, 8):
        weight.data.fill_(float(update))
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
        ema.update()
    assert ema.average["w"].item() == pytest.approx(expected)
    with ema.applied():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 7.0
    ema.copy_to_model()
    assert weight.item() == pytest.approx(expected)


def test_ema_of_other_weights_is_refused():
    ema = Ema({"w": nn.Parameter(torch.zeros(1))}, decay=0.5)
    with pytest.raises(ValueError, match="first difference"):
        ema.load({"v": torch.zeros(1)}, 1)


def test_optimizer_goes_on_from_its_tensors():
    torch.manual_seed(0)
    inputs = torch.randn(6, 3)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    first = build_optimizer(one, one.parameters(), CONFIG)
    step(one, first)
    two.load_state_dict(one.state_dict())
    second = build_optimizer(two, two.parameters(), CONFIG)
    load_optimizer_tensors(second, {name: tensor.clone() for name, tensor in optimizer_tensors(first).items()})
    step(one, first)
    step(two, second)
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
    with pytest.raises(ValueError, match="fits no trained parameter"):
        load_optimizer_tensors(second, {"exp_avg.weight": torch.zeros(9)})
