"""Check device maps, and that a dispatched model gives the same answers."""

import sys

import numpy as np
import pytest
import torch
from support.fake_device import FakeDevice
from support.small_families import build_family
from support.small_model import build_model, draw_sample

from sa2va.checkpoints.device import Place
from sa2va.checkpoints.device_map import budgets, plan_layers, spread
from sa2va.checkpoints.footprint import Need
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Request
from sa2va.model.families.qwen3_vl import add_deepstack

GIB = 2**30
NEED = Need(vision=GIB, language=15 * GIB, sam2=GIB, cache=GIB, working=GIB)


def place(device: str, free: float) -> Place:
    return Place(device, "", int(100 * GIB), int(free * GIB))


def test_the_first_gpu_keeps_room_for_the_rest_of_the_model() -> None:
    room = budgets(NEED, [place("cuda:0", 10), place("cuda:1", 10), place("cpu", 20)])
    assert {key: round(value / GIB, 6) for key, value in room.items()} == {0: 9 - 3, 1: 9 - 1, "cpu": 18}


def test_a_full_gpu_gets_nothing() -> None:
    room = budgets(NEED, [place("cuda:0", 1), place("cuda:1", 0.5), place("cpu", 20)])
    assert room == {0: 0, 1: 0, "cpu": int(int(20 * GIB) * 0.9)}


def test_devices_are_filled_in_the_order_of_the_layers() -> None:
    pytest.importorskip("accelerate")
    native = build_model()[0].mllm.native
    total = sum(parameter.numel() * 4 for parameter in native.parameters())
    assert set(plan_layers(native, torch.float32, {0: 2 * total, "cpu": total}).values()) == {0}
    assert set(plan_layers(native, torch.bfloat16, {0: int(0.9 * total), 1: total}).values()) == {0}  # half the bytes
    cut = plan_layers(native, torch.float32, {0: total // 2, 1: total})
    order = [cut[name] for name, _ in native.named_modules() if name in cut]
    assert order == sorted(order) and set(order) == {0, 1}
    layers = {name for name, module in native.named_modules() if type(module).__name__.endswith("Layer")}
    assert not [name for name in cut if any(name.startswith(f"{layer}.") for layer in layers)]  # none is cut in two


def test_what_fits_nowhere_is_one_line() -> None:
    pytest.importorskip("accelerate")
    native = build_model()[0].mllm.native
    with pytest.raises(ValueError, match=r"does not fit what is free \(0.0 GiB on 0, 0.0 GiB on cpu\); use quantize"):
        plan_layers(native, torch.float32, {0: 1000, "cpu": 1000})


def test_a_spread_model_answers_alike() -> None:
    pytest.importorskip("accelerate")
    model, processor = build_model()
    requests = [Request(draw_sample(seed).frames[0], "Please segment the red square.") for seed in range(2)]
    before = Predictor(model, processor).probe_batch(requests)
    names = ["model.vision_tower", "model.multi_modal_projector", "model.language_model", "lm_head"]
    spread(model, dict.fromkeys(names, "cpu"), torch.device("cpu"))
    hooked = [name for name, module in model.mllm.native.named_modules() if hasattr(module, "_hf_hook")]
    assert set(names) <= set(hooked)
    after = Predictor(model, processor).probe_batch(requests)
    assert all(np.array_equal(a.masks, b.masks) for a, b in zip(before, after, strict=True))


def test_weights_may_wait_elsewhere() -> None:
    """Offloaded weights are loaded for each layer's turn; otherwise the layer is on the meta device."""
    accelerate = pytest.importorskip("accelerate")
    model, processor = build_model()
    request = Request(draw_sample(0).frames[0], "Please segment the red square.")
    before = Predictor(model, processor).probe_batch([request])[0]
    model.mllm.native = accelerate.cpu_offload(model.mllm.native, execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.mllm.native.parameters())
    predictor = Predictor(model, processor)
    assert predictor.device == torch.device("cpu") and predictor.dtype == torch.float32
    assert np.array_equal(predictor.probe_batch([request])[0].masks, before.masks)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"does not fit one GPU; to spread it: pip install 'sa2va\[spread\]'"):
        plan_layers(build_model()[0].mllm.native, torch.float32, {0: 1000})


@pytest.mark.parametrize("kind", ["internvl_internlm2", "qwen2_5_vl", "qwen3_vl", "llava"])
def test_every_family_can_be_spread(kind: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, processor = build_family(kind)
    request = Request(draw_sample(0).frames[0], "Please segment the red square.")
    before = Predictor(model, processor).probe_batch([request])[0]
    states = torch.randn(1, 2, model.mllm.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.mllm.logits(states)
    native = model.mllm.native
    model.mllm.native = accelerate.cpu_offload(native, execution_device=torch.device("cpu"))
    assert np.array_equal(Predictor(model, processor).probe_batch([request])[0].masks, before.masks)
    with torch.no_grad():
        assert torch.equal(model.mllm.logits(states), logits)


def test_image_features_are_added_on_the_device_of_the_layer() -> None:
    states, features = torch.ones(1, 3, 2), torch.tensor([[2.0, 3.0]])
    places = torch.tensor([[False, True, False]])
    with FakeDevice() as device:
        added = add_deepstack(device.upload(states), places, features).cpu()
    assert added.tolist() == [[[1.0, 1.0], [3.0, 4.0], [1.0, 1.0]]]
