"""Count what PyTorch launches for a GPU, eager and compiled, on a machine without one.

Flow: within `pretended_gpu`: a module by pretend() -> its calls -> count_eager, count_compiled.
Tensors are FakeTensors of the device "privateuseone", which a Python backend can pretend; so code takes its path for a
GPU, at the true sizes and without arithmetic. Inductor lowers and fuses with its rules for Triton and stops before it
writes a kernel. A kernel or a library call is one launch; attention is one library call.
These are private parts of PyTorch, as no public one counts kernels without their device; tests/test_benchmarks.py runs
them with the versions that we support.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.device_interface import CpuInterface, register_interface_for_device
from torch._dynamo.utils import counters
from torch._inductor import config as inductor_config
from torch._inductor import ir, scheduler
from torch._inductor.codegen.common import (
    DeviceOpOverrides,
    init_backend_registration,
    register_backend_for_device,
    register_device_op_overrides,
)
from torch._inductor.codegen.triton import TritonScheduling
from torch._inductor.codegen.wrapper import PythonWrapperCodegen
from torch._inductor.compile_fx import compile_fx
from torch._inductor.fx_passes import fuse_attention, misc_patterns, pad_mm
from torch._inductor.graph import GraphLowering
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from sa2va.inference.compiling import INDUCTOR

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # what is a launch, is said by a tool of the tests
from support.fake_device import is_launch

M = TypeVar("M", bound=nn.Module)
NAME = "privateuseone"
DEVICE = f"{NAME}:0"


@dataclass
class Launches:
    """What one call launches."""

    kernels: int = 0  # compiled: generated kernels and library calls; eager: dispatched operations, views excluded
    graphs: int = 0  # compiled: one more than graph breaks


@torch.library.custom_op("counted::attention", mutates_args=())
def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    raise NotImplementedError("it is only counted")


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return query.new_empty(*query.shape[:-1], value.shape[-1])


def _sdpa(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **how: Any) -> Tensor:
    return _attend(query, key, value, attn_mask)


def register() -> None:
    """Register the pretended device with PyTorch, Dynamo and Inductor, once in a process."""
    _setup_privateuseone_for_python_backend()
    init_backend_registration()
    register_interface_for_device(NAME, CpuInterface)
    register_backend_for_device(NAME, TritonScheduling, PythonWrapperCodegen)
    register_device_op_overrides(NAME, DeviceOpOverrides())
    # Inductor traces the patterns of its passes on the device at hand, which can compute nothing.
    for module, name in (
        (fuse_attention, "_sfdp_init"),
        (pad_mm, "_pad_mm_init"),
        (misc_patterns, "_misc_patterns_init"),
    ):
        setattr(module, name, _on_cpu(getattr(module, name)))
    F.scaled_dot_product_attention = _sdpa
    scheduler.Scheduler.codegen = _stop  # ty: ignore[invalid-assignment]
    inductor_config.joint_graph_constant_folding = False  # it computes, as does copying a constant to the device
    GraphLowering.constant_name = lambda self, name, device: name


def _on_cpu(start: Callable[[torch.device], None]) -> Callable[..., None]:
    return lambda device=None: start(torch.device("cpu"))


_found: list[int] = []


class _Stop(Exception):
    """Inductor has fused everything."""


def _stop(self: scheduler.Scheduler) -> None:
    _found.append(sum(map(_is_kernel, self.nodes)))
    raise _Stop


def _is_kernel(node: scheduler.BaseSchedulerNode) -> bool:
    """Whether a node of the schedule launches something: no unused buffer, no output of a call that is counted."""
    return not isinstance(node, scheduler.NopKernelSchedulerNode) and not isinstance(node.node, ir.MultiOutput)


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Make new tensors fake ones."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield


def pretend(build: Callable[[], M]) -> M:
    """Build a module in bfloat16 on the pretended GPU, within `pretended_gpu`."""
    with unset_fake_temporarily(), torch.device("meta"):
        module = build().eval()
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(_like(parameter), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _like(buffer)
    return module


def _like(tensor: Tensor) -> Tensor:
    dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device=DEVICE)


class _Launched(TorchDispatchMode):
    """Count dispatched operations; views, metadata and allocations launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += is_launch(func) and func.namespace != "prim"
        return func(*args, **(kwargs or {}))


def count_eager(action: Callable[[], object]) -> Launches:
    """Count the operations that an action dispatches."""
    with _Launched() as launched:
        action()
    return Launches(launched.number)


def count_compiled(function: Callable[..., object], *inputs: Any) -> Launches:
    """Count the kernels and library calls of a function compiled for inputs, and its graphs."""

    def backend(graph: torch.fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
        before = len(_found)
        try:
            with inductor_config.patch(INDUCTOR):
                compile_fx(graph, list(examples))
        except Exception:
            if len(_found) == before:
                raise
        return graph.forward

    torch._dynamo.reset()
    counters.clear()
    _found.clear()
    torch.compile(function, backend=backend)(*inputs)
    return Launches(sum(_found), len(_found))
