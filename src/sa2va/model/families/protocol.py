"""Name what goes in and out of a backbone family, so that all of them are driven one way.

Flow: processor.py -> Picture -> Mllm.embed_inputs -> VisualTokens -> TextInput -> states.
Shapes: B samples, L tokens, D width, V visual tokens of all pictures, n image places of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

NO_GRID = (0, 0, 0)


def side_of(value: int | Sequence[int]) -> int:
    """Return the side of a square; some native classes write both sides.

    Raises:
        ValueError: the sides differ.
    """
    sides = set(value) if isinstance(value, Sequence) else {value}
    if len(sides) != 1:
        raise ValueError(f"config.json: a size is {list(sides)}; expected a square")
    return sides.pop()


@dataclass(frozen=True)
class Picture:
    """One picture, or one frame of a clip, as a family's image encoder takes it."""

    pixel_values: Tensor  # rows of the encoder's input: (P, 3, s, s) tiles, or (patches, values of a patch)
    num_tokens: int  # visual tokens that it becomes
    grid: tuple[int, int, int] = NO_GRID  # time, rows, columns of patches, where the encoder takes any size


@dataclass(frozen=True)
class VisualTokens:
    """What the image encoder says, in the text model's space."""

    tokens: Tensor  # (V, D)
    deepstack: tuple[Tensor, ...] = ()  # each (V, D), for the states after text layer 0, 1, ...


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """What the language model reads."""

    embeds: Tensor  # (B, L, D), pictures in their places
    attention_mask: Tensor  # (B, L), or (B, cached + L) on top of a cache
    position_ids: Tensor  # (B, L), or (3, B, L) with time, row and column
    visual_places: Tensor | None = None  # (B, L) bool, needed for deepstack
    deepstack: tuple[Tensor, ...] = ()  # each (n, D), added at the visual places after text layer 0, 1, ...

    @property
    def next_positions(self) -> Tensor:
        """(B,) position of the token that would follow in each row; padding has small positions."""
        flat = self.position_ids.reshape(-1, *self.embeds.shape[:2])
        return flat.amax(dim=(0, 2)) + 1


def call_text_model(model: nn.Module, inputs: TextInput, cache: DynamicCache | None, **more: Any) -> Tensor:
    """Run a native text model: its last hidden states (B, L, D), after the final norm."""
    return model(
        inputs_embeds=inputs.embeds,
        attention_mask=inputs.attention_mask,
        position_ids=inputs.position_ids,
        past_key_values=cache,
        use_cache=cache is not None,
        **more,
    ).last_hidden_state


def to_channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (..., H, W, 3) -> (..., 3, H, W); copies what PIL gives read-only."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3)))
