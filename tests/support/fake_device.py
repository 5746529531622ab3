"""Run real code on a pretended accelerator that counts host waits, launches and uploads, without a GPU.

Flow: FakeDevice.put(module) -> code under test -> FakeDevice.take() -> Counts.
A tensor of the device holds its numbers on the CPU and reports device "meta", the only one besides the CPU that every
build of torch can guard. An operation is one launch; views and allocations are none. A wait stops the host until the
queue of a GPU is empty: a number that is read, a copy to the CPU, a shape that depends on values. An operation on
tensors of both devices fails, as on a GPU.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import sa2va

DEVICE = torch.device("meta")
PACKAGE = str(Path(sa2va.__file__).parent)
READS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount"}
READS |= {"_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"}
COPIES = {"_to_copy", "copy_"}
FREE = {"detach", "alias", "lift_fresh", "_unsafe_view", "_reshape_alias"}  # no kernel, though no view by their schema
FREE |= {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
TAKES_HOST_INDEX = {"index", "index_put", "index_put_"}


@dataclass
class Counts:
    """What code did on the device."""

    waits: list[str] = field(default_factory=list)  # "file.py:line operation", one per wait
    uploads: list[str] = field(default_factory=list)  # copies from the CPU
    launches: Counter[str] = field(default_factory=Counter)  # by operation

    @property
    def num_launches(self) -> int:
        return self.launches.total()


class DeviceTensor(Tensor):
    """Tensor of the pretended device; `host` holds its numbers."""

    host: Tensor
    owner: "FakeDevice"

    @staticmethod
    def __new__(cls, host: Tensor, owner: "FakeDevice") -> "DeviceTensor":
        return Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip

    def __init__(self, host: Tensor, owner: "FakeDevice") -> None:
        self.host, self.owner = host, owner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        owner = next(leaf.owner for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, DeviceTensor))
        return owner.run(func, args, kwargs or {})

    def __repr__(self, **how: Any) -> str:
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **how: Any) -> Tensor:
        return self.owner.upload(torch.tensor(data, dtype=dtype or self.dtype))


class FakeDevice:
    """Context in which device "meta" computes.

    Threads that start inside it do not see it: read files with prefetch=False.
    """

    device = DEVICE

    def __init__(self) -> None:
        self._counts = Counts()
        self._mode = _Mode(self)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._replace())
        self._stack.enter_context(self._mode)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def take(self) -> Counts:
        """Return the counts since the last call, and start again from zero."""
        counts, self._counts = self._counts, Counts()
        return counts

    def put(self, module: nn.Module) -> None:
        """Move the parameters and buffers of a module onto the device, without a count."""
        known: dict[int, Tensor] = {}
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None and not isinstance(parameter, DeviceTensor):
                    moved = nn.Parameter(DeviceTensor(parameter.data, self), requires_grad=False)
                    part._parameters[name] = known.setdefault(id(parameter), moved)  # ty: ignore[invalid-assignment]
            for name, buffer in part._buffers.items():
                if buffer is not None and not isinstance(buffer, DeviceTensor):
                    part._buffers[name] = known.setdefault(id(buffer), DeviceTensor(buffer, self))

    def upload(self, host: Tensor) -> Tensor:
        """Copy a tensor of the CPU onto the device."""
        return self.run(torch.ops.aten._to_copy.default, (host,), {"device": DEVICE})

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operation on the CPU and count it; `func` is an operator of torch or a fused function."""
        name = func.overloadpacket.__name__ if isinstance(func, torch._ops.OpOverload) else func.__name__
        if isinstance(func, torch._ops.OpOverload) and name not in ("_to_copy", "copy_"):
            with self._mode:  # under inference_mode torch does not decompose before it dispatches
                whole = func.decompose(*args, **kwargs)
            if whole is not NotImplemented:
                return whole
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        wanted = kwargs.get("device")
        on_device = bool(ours) if wanted is None else torch.device(wanted).type == DEVICE.type
        if name == "copy_":
            on_device = isinstance(args[0], DeviceTensor)
        if not ours and not on_device:
            return func(*args, **_on_host(func, kwargs))
        self._check(name, tensors)
        self._count(func, name, args, kwargs, comes=len(ours) < len(tensors), goes=not on_device)
        hosts = {id(tensor.host): tensor for tensor in ours}
        found = func(*_hosts(args), **_on_host(func, _hosts(kwargs)))
        if torch.Tag.inplace_view in getattr(func, "tags", ()):
            with no_dispatch():  # the shape of the tensor that code holds changes with that of its numbers
                func(*args, **kwargs)
        if not on_device:
            return found
        return tree_map_only(Tensor, lambda one: hosts[id(one)] if id(one) in hosts else DeviceTensor(one, self), found)

    def _check(self, name: str, tensors: Sequence[Tensor]) -> None:
        """Refuse tensors of two devices, and those without numbers."""
        for tensor in tensors:
            if isinstance(tensor, DeviceTensor):
                continue
            if tensor.device.type == DEVICE.type:
                raise RuntimeError(f"{name}: a tensor was made on the device outside of the FakeDevice or its thread")
            if tensor.dim() and name not in COPIES | TAKES_HOST_INDEX:
                raise RuntimeError(f"{name}: expected all tensors on the device, found one on the CPU")

    def _count(self, func: Any, name: str, args: Any, kwargs: Any, *, comes: bool, goes: bool) -> None:
        if goes or name in READS or _picks_by_value(name, args, kwargs):
            self._counts.waits.append(f"{_place()} {name}")
        elif comes and name in COPIES | TAKES_HOST_INDEX:
            self._counts.uploads.append(f"{_place()} {name}")
        if not goes and name != "_local_scalar_dense" and is_launch(func):
            self._counts.launches[name] += not (comes and name in COPIES)

    @contextlib.contextmanager
    def _replace(self) -> Iterator[None]:
        """Replace functions of torch that never reach a dispatch mode, or reach it in the parts of another kernel."""
        places: dict[tuple[Any, str], Callable[[Any], Any]] = {
            (F, "scaled_dot_product_attention"): self._fuse,
            (torch, "tensor"): self._upload_from,
            (torch, "as_tensor"): self._upload_from,
            (torch, "Generator"): lambda real: _HostGenerator,
        }
        before = {place: getattr(*place) for place in places}
        try:
            for place, replace in places.items():
                setattr(*place, replace(before[place]))
            yield
        finally:
            for place, real in before.items():
                setattr(*place, real)

    def _fuse(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Tensor:
            leaves = tree_leaves((args, kwargs))
            if any(isinstance(leaf, DeviceTensor) for leaf in leaves):
                with torch._C._DisableTorchDispatch():
                    return self.run(real, args, kwargs)
            return real(*args, **kwargs)

        return scaled_dot_product_attention

    def _upload_from(self, real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def build(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            if device is None or torch.device(device).type != DEVICE.type or isinstance(data, DeviceTensor):
                return real(data, *args, device=device, **kwargs)
            return self.upload(real(data, *args, **kwargs))

        return build


class _Mode(TorchDispatchMode):
    """Pass every operation on, also those that take no tensor."""

    def __init__(self, owner: FakeDevice) -> None:
        super().__init__()
        self._owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._owner.run(func, args, kwargs or {})


class _HostGenerator(torch.Generator):
    """Generator of random numbers for both devices."""

    def __new__(cls, device: Any = "cpu") -> "_HostGenerator":
        return super().__new__(cls, "cpu" if torch.device(device) == DEVICE else device)


def _hosts(tree: Any) -> Any:
    return tree_map_only(DeviceTensor, lambda tensor: tensor.host, tree)


def _on_host(func: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Redirect an operation to the CPU, without pinned memory, which needs a GPU."""
    kwargs = dict(kwargs)
    if kwargs.get("device") is not None:
        kwargs["device"] = "cpu"
    if kwargs.get("pin_memory"):
        kwargs["pin_memory"] = False
    return kwargs


def is_launch(func: Any) -> bool:
    """Whether an operation launches a kernel: no view, no allocation. A fused function of torch is one."""
    if not isinstance(func, torch._ops.OpOverload):
        return True
    aliases = [one.alias_info for one in func._schema.returns]
    is_view = any(one is not None and not one.is_write for one in aliases)
    return not is_view and func.overloadpacket.__name__ not in FREE


def _picks_by_value(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the shape of the result depends on the values of a mask or of repeats."""
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name not in TAKES_HOST_INDEX:
        return False
    masks = [one for one in args[1] if one is not None and one.dtype in (torch.bool, torch.uint8)]
    fills = name != "index" and args[2].numel() == 1 and not any(args[3:])  # torch fills by the mask itself
    return bool(masks) and not fills


def _place() -> str:
    """Name the innermost line of the package that is running, else of the caller outside of torch."""
    frame, other = sys._getframe(1), "?"
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"{Path(path).name}:{frame.f_lineno}"
        if other == "?" and path != __file__ and "/torch/" not in path:
            other = f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back
    return other
