"""Check the values of schedule, parameter groups, clipping and averaged weights."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from sa2va.training.optim import (
    average_tensors,
    averaged,
    build_average,
    build_optimizer,
    build_schedule,
    copy_tensors,
    parameter_groups,
)
from sa2va.training.stage import StageConfig
from sa2va.training.state import State, load_optimizer, optimizer_tensors, read_state, save_state

CONFIG = StageConfig(name="s", steps=10, batch_size=1, lr=0.1, weight_decay=0.2)


def rates(config: StageConfig, first: int = 0) -> list[float]:
    """Return the learning rate of each step from `first` on, relative to the peak."""
    weight = nn.Linear(2, 2)
    optimizer = build_optimizer(weight, weight.parameters(), config)
    schedule = build_schedule(optimizer, config, first)
    found = []
    for _ in range(first, config.steps):
        found.append(optimizer.param_groups[0]["lr"] / config.lr)
        optimizer.step()
        schedule.step()
    return found


def test_schedule_values():
    found = rates(replace(CONFIG, steps=100, warmup_steps=4, min_lr_ratio=0.1))
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[51] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 48 / 96)))
    assert found[99] == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 2, 3, 50])
@pytest.mark.parametrize("warmup", [0, 1, 20, 600])
@pytest.mark.parametrize("floor", [0.0, 0.5, 1.0])
def test_schedule_rises_then_falls_within_its_bounds(steps, warmup, floor):
    found = rates(replace(CONFIG, steps=steps, warmup_steps=warmup, min_lr_ratio=floor))
    top = found.index(max(found))
    assert all(0 <= f <= 1 + 1e-9 for f in found)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] == pytest.approx(floor if steps > 1 and warmup else found[-1])


def test_schedule_goes_on_where_it_stopped():
    config = replace(CONFIG, steps=20, warmup_steps=5)
    assert rates(config, 7) == rates(config)[7:]


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
    names = {id(p): name for name, p in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
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
    build_schedule(optimizer, replace(CONFIG, warmup_steps=2), 0)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert found["conv.weight"] == found["conv.bias"] == pytest.approx(0.025)
    assert found["norm.bias"] == pytest.approx(1.5)
    assert found["head.bias"] == found["embed.weight"] == pytest.approx(0.05)


def test_foreign_or_only_frozen_parameters_are_our_mistake():
    model = Parts()
    with pytest.raises(AssertionError, match="not in its module"):
        parameter_groups(model, nn.Linear(2, 2).parameters(), CONFIG)
    with pytest.raises(AssertionError, match="nothing to train"):
        parameter_groups(model, model.frozen.parameters(), CONFIG)


def test_average_arithmetic():
    module = nn.Linear(1, 1, bias=False)
    trained = {"w": module.weight}
    weights = nn.ParameterList(trained.values())
    average = build_average(weights, 0.5)
    expected = 0.0
    for update in range(1, 8):
        module.weight.data.fill_(float(update))
        average.update_parameters(weights)
        decay = min(0.5, update / (9 + update)) if update > 1 else 0.0  # of the update before
        expected = decay * expected + (1 - decay) * update
    assert average_tensors(average, trained)["w"].item() == pytest.approx(expected)
    with averaged(average, trained):
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 7.0
    with averaged(None, trained):
        assert module.weight.item() == 7.0


def test_tensors_of_other_names_are_refused():
    with pytest.raises(ValueError, match="first difference: v"):
        copy_tensors({"v": torch.zeros(1)}, {"w": torch.zeros(1)})


def test_optimizer_goes_on_from_its_tensors(tmp_path):
    """Parameters that were never updated have no moments before or after restoring."""
    torch.manual_seed(0)
    inputs = torch.randn(6, 3)

    def step(model, optimizer, *, whole=False):
        optimizer.zero_grad()
        (model[1](model[0](inputs)) if whole else model[0](inputs)).square().mean().backward()
        optimizer.step()

    def build():
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
        return model, build_optimizer(model, model.parameters(), CONFIG)

    (one, first), (two, second) = build(), build()
    assert optimizer_tensors(one, first) == {} and not first.state
    step(one, first)
    moments = optimizer_tensors(one, first)
    names = [f"{moment}.0.{name}" for moment in ("exp_avg", "exp_avg_sq", "step") for name in ("weight", "bias")]
    assert sorted(moments) == sorted(names)
    saved = read_state(save_state(tmp_path, State(1, {}, {"optimizer": moments})))
    two.load_state_dict(one.state_dict())
    load_optimizer(two, second, saved)
    for whole in (False, True):
        step(one, first, whole=whole)
        step(two, second, whole=whole)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    odd = State(2, {}, {"optimizer": {"exp_avg.0.weight": torch.zeros(9)}})
    with pytest.raises(ValueError, match=r"has exp_avg.0.weight \(9,\), which fits no trained parameter"):
        load_optimizer(two, second, read_state(save_state(tmp_path, odd)))
