"""Check that calibration recovers known scales, folds them into heads and calibrates presence."""

import copy

import pytest
import torch
from support.small_model import build_model
from torch import nn

from sa2va.inference.predictor import Predictor
from sa2va.metrics.calibration import ece
from sa2va.training.stage import StageConfig
from sa2va.world.training.head_calibration import Scale, calibrate, fit, probe
from sa2va.world.training.recipes import TinyRun


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.2, -1.0), (4.0, 2.5), (0.01, 0.3)])
def test_a_known_scale_comes_back(slope, offset):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40_000, generator=generator) * 2 / slope + 1
    truth = torch.bernoulli((slope * logits + offset).sigmoid(), generator=generator)
    found = fit(logits, truth)
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.08)
    assert ece(found(logits).sigmoid().numpy(), truth.numpy()) < 0.01


def test_soft_outcomes_are_met_on_average():
    logits = torch.linspace(-3, 3, 500)
    truth = 0.3 + 0.1 * torch.tanh(logits)
    found = fit(logits, truth)
    assert found(logits).sigmoid().mean() == pytest.approx(float(truth.mean()), abs=1e-3)


def test_one_value_alone_gives_its_mean():
    found = fit(torch.full((100,), 7.0), (torch.arange(100) < 30).float())
    assert found(torch.tensor(7.0)).sigmoid() == pytest.approx(0.3, abs=1e-3)


def test_a_folded_layer_gives_scaled_logits():
    torch.manual_seed(0)
    linear, inputs, scale = nn.Linear(8, 4), torch.randn(5, 8), Scale(0.7, -1.2)
    before = linear(inputs)
    scale.fold_into(linear)
    assert torch.allclose(linear(inputs), scale(before), atol=1e-6)


def test_heads_are_changed_and_nothing_else():
    model, processor = build_model()
    before = copy.deepcopy(model.state_dict())
    _, _, there, _ = probe(Predictor(model, processor), 5, 60)
    calibrate(model, processor, seed=5, num_requests=60)
    after, _, same, _ = probe(Predictor(model, processor), 5, 60)
    assert torch.equal(there, same)
    assert 0 < there.float().mean() < 1
    # Cross-entropy with an offset makes the mean presence the share of what is there.
    assert after.sigmoid().mean() == pytest.approx(float(there.float().mean()), abs=0.02)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    heads = ("sam2.native.mask_decoder.pred_obj_score_head.", "sam2.native.mask_decoder.iou_prediction_head.")
    assert changed and all(name.startswith(heads) for name in changed)


def test_too_few_requests_are_refused():
    stage = StageConfig(name="cotrain", steps=1, batch_size=1, lr=1e-3)
    with pytest.raises(ValueError, match="calibration on 3 requests; use 0 or at least 50"):
        TinyRun(name="few", output="x", stages=(stage,), calibration=3)
