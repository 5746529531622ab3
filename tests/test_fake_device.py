"""Test that the pretended accelerator computes as a CPU does and counts what a GPU would wait for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.fake_device import DEVICE, DeviceTensor, FakeDevice
from support.small_model import build_model, draw_sample
from torch import nn

from sa2va.inference.predictor import Predictor
from sa2va.inference.tracking.session import TrackSession

WAITS = {
    "item": lambda x: x[0, 0].item(),
    "bool": lambda x: bool(x[0, 0] > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu", torch.float64),
    "copy into the CPU's": lambda x: torch.empty(3, 4).copy_(x),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "assign tensor by mask": lambda x: x.__setitem__(x > 0, torch.arange(5.0, device=DEVICE)),
    "repeat_interleave": lambda x: x.repeat_interleave(torch.tensor([1, 2, 3], device=DEVICE), 0),
}
NO_WAITS = {
    "arithmetic": (lambda x: (x * 2 + 1).softmax(-1) @ x.mT, 4),
    "in place": (lambda x: x.add_(1).relu_(), 2),
    "views": (lambda x: x[1:].reshape(4, 2).T[None].squeeze(0), 0),
    "allocation": (lambda x: x.new_empty(5), 0),
    "attention": (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), 1),
    "linear": (lambda x: F.linear(x[None], x, x.new_ones(3)), 2),
    "index by number": (lambda x: x[torch.arange(2, device=DEVICE)], 2),
    "fill by mask": (lambda x: x.masked_fill_(x > 0, 1.0), 2),
    "with a scalar of the CPU": (lambda x: x + torch.tensor(2.0), 1),
}


@pytest.fixture
def device():
    with FakeDevice() as device:
        yield device


@pytest.mark.parametrize("name", WAITS)
def test_one_wait(name: str, device: FakeDevice) -> None:
    """Each reads values on the host once."""
    drawn = torch.arange(-6.0, 6.0).reshape(3, 4)
    x = drawn.to(DEVICE)
    assert not device.take().waits
    WAITS[name](x)
    assert len(device.take().waits) == 1


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", NO_WAITS)
def test_no_wait(name: str, grad_mode: type, device: FakeDevice) -> None:
    """Each is launched without a wait, with the numbers of the CPU."""
    action, launches = NO_WAITS[name]
    drawn = torch.arange(-6.0, 6.0).reshape(3, 4)
    with grad_mode():
        x = drawn.to(DEVICE)
        assert len(device.take().uploads) == 1
        found = action(x)
    counts = device.take()
    assert (counts.waits, counts.num_launches) == ([], launches), counts
    if name not in ("allocation", "index by number"):
        assert torch.equal(found.cpu(), action(drawn.clone()))


def test_waits_name_their_line(device: FakeDevice) -> None:
    torch.ones(2, device=DEVICE)[0].item()
    (wait,) = device.take().waits
    assert wait.startswith("test_fake_device.py:") and wait.endswith(" _local_scalar_dense")


def test_two_devices(device: FakeDevice) -> None:
    """Refuse a mixture, as a GPU does; upload what comes from a list."""
    x = torch.tensor([1.0, 2.0], device=DEVICE)
    assert isinstance(x, DeviceTensor) and x.device == DEVICE and len(device.take().uploads) == 1
    with pytest.raises(RuntimeError, match="add: expected all tensors on the device, found one on the CPU"):
        x + torch.ones(2)


def test_put(device: FakeDevice) -> None:
    """A module on the device computes as on the CPU; tied weights stay tied."""
    layer = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)).requires_grad_(False)
    layer[2].weight = layer[0].weight
    x = torch.randn(2, 4)
    expected = layer(x)
    device.put(layer)
    assert layer[2].weight is layer[0].weight and not device.take().uploads
    assert torch.equal(layer(x.to(DEVICE)).cpu(), expected)


def test_tracking_runs_on_it(device: FakeDevice) -> None:
    """A session gives the masks that it gives on the CPU."""
    model, processor = build_model()
    frames = np.concatenate([draw_sample(seed).frames for seed in range(4)])

    def track() -> list[np.ndarray]:
        predictor = Predictor(model.eval(), processor)
        with predictor.track(frames, prefetch=False) as session:
            assert isinstance(session, TrackSession)
            session.add(box=(8, 12, 40, 44))
            return [found.mask for result in session for found in result.objects]

    expected = track()
    device.put(model)
    device.take()
    tracked = track()
    counts = device.take()
    assert counts.waits and counts.num_launches > 100
    assert len(tracked) == len(expected) == 4
    for one, other in zip(tracked, expected, strict=True):
        assert np.mean(one != other) < 1e-3
