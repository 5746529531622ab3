"""Store keys and values in buffers with room for more tokens.

Flow: Mllm.run_text -> KvCache.update, once per layer -> the keys and values that attention reads.
Shapes: B rows, H key-value heads, L cached tokens, n new tokens, C capacity of a buffer, d width of a head.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from sa2va.model.batch import move
from sa2va.model.torch_defaults import is_read_only

BLOCK = 256  # tokens; capacities are multiples of it


class KvLayer(DynamicLayer):
    """Keys and values of one layer: buffers (B, H, C, d) of which the first `length` columns are filled."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self.buffers: list[Tensor] = []  # keys and values; empty before the first token

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (B, H, n, d); return views of all L + n keys and values."""
        start, end = self.length, self.length + key_states.shape[-2]
        self.reserve(end, (key_states, value_states))
        keys, values = (buffer[:, :, :end] for buffer in self.buffers)
        keys[:, :, start:] = key_states
        values[:, :, start:] = value_states
        self.length = end
        return keys, values

    def write(self, key_states: Tensor, value_states: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Write one token (B, H, 1, d) at a column (1,) of the device; return the whole buffers (B, H, C, d)."""
        keys, values = self.buffers
        return keys.index_copy_(2, column, key_states), values.index_copy_(2, column, value_states)

    def reserve(self, length: int, like: Sequence[Tensor]) -> None:
        """Make the buffers hold `length` columns, rounded up to whole blocks, and writable in place."""
        if self.buffers and length <= self.buffers[0].shape[-2] and not is_read_only(self.buffers[0]):
            return
        capacity = -(-length // BLOCK) * BLOCK
        grown = [one.new_zeros(*one.shape[:2], capacity, one.shape[-1]) for one in like]
        for new, old in zip(grown, self.buffers, strict=False):
            new[:, :, : self.length] = old[:, :, : self.length]
        self.buffers = grown

    def get_seq_length(self) -> int:
        """Return L."""
        return self.length

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, numbered on the host."""
        self.buffers = [one.index_select(0, move(indices, one.device)) for one in self.buffers]


class KvCache(Cache):
    """KV cache of all layers that grows by blocks, so that appending a token copies that token only."""

    def __init__(self, num_layers: int) -> None:
        self._own = [KvLayer() for _ in range(num_layers)]
        super().__init__(layers=list(self._own))
        self._column: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the keys and values of a layer; return those that its attention reads."""
        layer = self._own[layer_idx]
        if self._column is None:
            return layer.update(key_states, value_states)
        return layer.write(key_states, value_states, self._column.to(key_states.device))

    def truncate(self, length: int) -> None:
        """Forget all tokens from column `length` on; a failed forward pass has filled only some layers."""
        for layer in self._own:
            layer.length = min(layer.length, length)

    def reserve_token(self) -> int:
        """Make room for one more token in every layer; return the capacity C."""
        for layer in self._own:
            layer.reserve(layer.length + 1, layer.buffers)
        return self._own[0].buffers[0].shape[-2]

    @contextmanager
    def writing_at(self, column: Tensor) -> Generator[None]:
        """Let a step of one token write at a column (1,) of the device, and attention read whole buffers."""
        self._column = column
        try:
            yield
        finally:
            self._column = None
        for layer in self._own:
            layer.length += 1
