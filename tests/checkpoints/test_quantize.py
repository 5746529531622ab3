"""Check that a quantized model gives the same answers, in the estimated memory."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from support.small_families import build_family
from support.small_model import build_model
from torch import Tensor

from sa2va.checkpoints.footprint import CHOICES, measure, memory_need
from sa2va.checkpoints.quantize import import_quantizer, quantize_mllm
from sa2va.inference.loading import load
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("bitsandbytes", reason="pip install 'sa2va[quantize]'")


def draw_shapes() -> np.ndarray:
    image = Image.new("RGB", (224, 224), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((30, 40, 110, 120), fill="red")
    pen.rectangle((130, 100, 200, 200), fill="blue")
    return np.asarray(image)


REQUESTS = [Request(draw_shapes(), text) for text in ("What is in the picture?", "Please segment the red circle.")]


def last_states(predictor: Predictor) -> Tensor:
    """Return the language model's last hidden state of each prompt: (2, D)."""
    queries = [predictor.engine.open(request, Options()) for request in REQUESTS]
    return predictor.engine.prefill(queries, 1)[1].float()


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return last_states(load("tiny", device="cpu"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.03), ("int4", 0.15)])
def test_a_packed_model_has_the_same_in_mind(
    library: Any, expected: Tensor, kind: str, tolerance: float, dtype: str
) -> None:
    packed = load("tiny", device="cpu", dtype=dtype, quantize=kind)
    error = (last_states(packed) - expected).norm() / expected.norm()
    assert 0 < error < tolerance
    answer = packed.probe_batch(REQUESTS[1:])[0]
    assert answer.masks.shape == (1, 1, 224, 224) and packed.predict_batch(REQUESTS)[0].text


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_weights_take_what_was_promised(library: Any, kind: str) -> None:
    packed = load("tiny", device="cpu", dtype="bfloat16", quantize=kind)
    need = memory_need(measure(packed.model.config, torch.device("cpu")), CHOICES[kind])
    assert abs(stored_bytes(packed.model) / need.weights - 1) < 0.03
    assert stored_bytes(packed.model.mllm) < {"int8": 0.65, "int4": 0.45}[kind] * stored_bytes(
        load("tiny", device="cpu", dtype="bfloat16").model.mllm
    )


def stored_bytes(module: torch.nn.Module) -> int:
    """Sum the bytes of parameters and of quantization state."""
    tensors = list(module.parameters())
    for parameter in module.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.state2.absmax]
        if getattr(parameter, "SCB", None) is not None:
            tensors.append(parameter.SCB)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_only_the_mllm_is_packed_and_not_its_output(library: Any) -> None:
    model, _ = build_model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    quantize_mllm(model, "int4", CPU)
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    packed = {name for name, kind in kinds.items() if kind != torch.float32}
    assert all(name.endswith(".weight") and "norm" not in name for name in packed)
    assert {kinds[name] for name in packed if ".language_model." in name} == {torch.uint8}  # two of 4 bits in each
    assert {kinds[name] for name in packed if ".vision_tower." in name} == {torch.int8}
    kept = [name for name in before if name.startswith(("sam2.", "projector.")) or "lm_head" in name or "embed" in name]
    assert kept and all(torch.equal(before[name], dict(model.named_parameters())[name]) for name in kept)


@pytest.mark.parametrize("family", ["internvl_internlm2", "qwen2_5_vl", "qwen3_vl", "llava"])
def test_every_family_can_be_packed(library: Any, family: str) -> None:
    model, processor = build_family(family)
    request = Request(draw_shapes()[::4, ::4], "What is in the picture?")

    def last_state() -> Tensor:
        predictor = Predictor(model, processor)
        return predictor.engine.prefill([predictor.engine.open(request, Options())], 1)[1]

    before = last_state()
    quantize_mllm(model, "int8", CPU)
    assert 0 < (last_state() - before).norm() / before.norm() < 0.05


@pytest.mark.parametrize(
    ("kind", "device", "message"),
    [
        ("int2", "cpu", "unknown quantize 'int2'; use int8, int4 or leave it out"),
        ("int8", "mps", "quantize='int8' runs on cpu and cuda, not on mps"),
    ],
)
def test_what_cannot_be_packed(kind: str, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_quantizer(kind, torch.device(device))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"quantize='int4' needs an extra; run: pip install 'sa2va\[quantize\]'"):
        load("tiny", device="cpu", quantize="int4")
