"""Check when functions are compiled, and that tracking with compiled ones gives the same masks."""

from typing import Any

import numpy as np
import pytest
import torch
from support.small_model import build_model
from support.small_session import BOX, draw_frames
from torch import Tensor

from sa2va.inference import compiling
from sa2va.inference.compiling import CALLS_TO_PAY, MAX_SHAPES, REPEATS, Compiler, check_mode
from sa2va.inference.loading import load
from sa2va.inference.predictor import Predictor

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def double(x: Tensor) -> Tensor:
    return 2 * x


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record each compilation, and run the function as it is."""
    calls: list[dict[str, Any]] = []

    def record(function: Any, **how: Any) -> Any:
        calls.append(how)
        return function

    monkeypatch.setattr(torch, "compile", record)
    return calls


def count_until_compiled(compiler: Compiler, calls: list[Any], ahead: int, most: int) -> int | None:
    for number in range(1, most + 1):
        assert torch.equal(compiler.wrap("doubling", double, ahead=ahead)(torch.ones(2)), torch.full((2,), 2.0))
        if calls:
            return number
    return None


@pytest.mark.filterwarnings("ignore:compiling the doubling")
@pytest.mark.parametrize(
    ("mode", "device", "ahead", "expected"),
    [
        (True, CPU, 0, REPEATS + 1),
        (True, GPU, 0, REPEATS + 1),
        ("auto", GPU, CALLS_TO_PAY, REPEATS + 1),
        ("auto", GPU, 0, CALLS_TO_PAY),
        ("auto", CPU, CALLS_TO_PAY, None),
        (False, GPU, CALLS_TO_PAY, None),
    ],
)
def test_when_a_function_is_compiled(mode, device, ahead, expected, compiled) -> None:
    assert count_until_compiled(Compiler(mode, device), compiled, ahead, CALLS_TO_PAY + 1) == expected
    assert all(how["fullgraph"] for how in compiled)


@pytest.mark.filterwarnings("ignore:compiling the doubling")
def test_each_shape_counts_for_itself(compiled: list[Any]) -> None:
    compiler = Compiler(True, CPU)
    for number in [1, 2, 3, 1, 2, 3] * REPEATS:  # as a memory that fills
        compiler.wrap("doubling", double)(torch.ones(number))
    assert not compiled
    for number in range(1, MAX_SHAPES + 3):
        for _ in range(REPEATS + 2):
            compiler.wrap("doubling", double)(torch.ones(number))
    assert len(compiled) == MAX_SHAPES


@pytest.mark.filterwarnings("ignore:compiling the doubling")
def test_dynamic_shapes_count_together(compiled: list[Any]) -> None:
    compiler = Compiler(True, CPU)
    for number in range(1, 9):
        found = compiler.wrap("doubling", double, dynamic=True)(torch.ones(number))
        assert torch.equal(found, torch.full((number,), 2.0))
    assert len(compiled) == 1


class Scale(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def scale(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.filterwarnings("ignore:compiling the scaling")
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_method_of_two_modules_is_compiled_for_each(dynamic: bool, compiled: list[Any]) -> None:
    compiler, modules = Compiler(True, CPU), [Scale(1.0), Scale(2.0)]
    for module in [*modules, *modules]:
        for _ in range(REPEATS + 2):
            found = compiler.wrap("scaling", module.scale, dynamic=dynamic)(torch.ones(2))
            assert torch.equal(found, torch.full((2,), module.factor))
    assert len(compiled) == len(modules)


def test_it_says_so_once(compiled: list[Any], recwarn: pytest.WarningsRecorder) -> None:
    count_until_compiled(Compiler(True, CPU), [], 0, REPEATS + 5)
    (warning,) = recwarn
    assert "compiling the doubling" in str(warning.message)


def fail(*inputs: Any, **how: Any) -> Any:
    raise RuntimeError("no compiler\nand a long story")


@pytest.mark.filterwarnings("ignore:compiling the doubling")
def test_where_it_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", fail)
    auto, told = Compiler("auto", GPU), Compiler(True, CPU)
    with pytest.warns(UserWarning, match=r"cannot be compiled here \(no compiler\); it runs uncompiled$"):
        count_until_compiled(auto, [], CALLS_TO_PAY, REPEATS + 5)
    assert not auto.is_on
    with pytest.raises(ValueError, match=r"^compile=True: the doubling cannot be compiled here \(no compiler\)"):
        count_until_compiled(told, [], 0, REPEATS + 1)


@pytest.mark.parametrize("mode", ["yes", 1.5, None, "True"])
def test_a_wrong_mode_is_refused(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"^compile=.*: expected one of 'auto', True, False$"):
        load("no such model", compile=mode)


@pytest.mark.parametrize("mode", compiling.MODES)
def test_modes(mode: Any) -> None:
    assert check_mode(mode) is mode


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:compiling the")
def test_a_compiled_session_gives_the_same_masks() -> None:
    model, processor = build_model()
    frames = np.concatenate([draw_frames()] * 3)

    def track(mode: bool) -> list[np.ndarray]:
        predictor = Predictor(model, processor, compile=mode)
        with predictor.track(frames) as session:
            session.add(box=BOX)
            found = [one.mask for result in session for one in result.objects]
        assert set(predictor.engine.compiler._compiled) == ({"image encoder", "tracking step"} if mode else set())
        return found

    expected, found = track(False), track(True)
    assert len(found) == len(expected) == len(frames)
    assert np.mean(np.stack(found) != np.stack(expected)) < 1e-4
