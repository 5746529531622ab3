"""Count the memory that a computation holds at once, on any device, also on the one that holds nothing."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Follow every storage from its first tensor to its end; `peak` is the most bytes at once."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage()) not in self._seen:
                self._seen.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, storage.nbytes())
        return output

    def _forget(self, number: int) -> None:
        self.now -= number


def peak_numbers(module: torch.nn.Module, call: Callable[[], object], monkeypatch: Any) -> float:
    """Return the most float32 numbers that a call holds at once, weights aside.

    Attention counts as its fused form, which writes no scores; the meta device has only the other one.
    """
    real = F.scaled_dot_product_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if query.device.type != "meta":
            return real(query, key, value, *args, **kwargs)
        return query.new_empty(*query.shape[:-1], value.shape[-1])

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    with torch.no_grad(), LiveMemory([*module.parameters(), *module.buffers()]) as live:
        call()
    return live.peak / 4
