"""Define what an MLLM family does, and the tensors that go in and out of one.

Flow: processor.py -> Picture -> Mllm.embed_inputs -> VisualTokens -> TextInput -> states.
Shapes: B samples, L tokens, D width, V visual tokens of all pictures, n image places of the batch, Y vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from sa2va.model.config import Sa2VAConfig

NO_GRID = (0, 0, 0)


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
    attention_mask: Tensor  # (B, L), (B, cached + L) on top of a cache, or added to the scores: (B, 1, L, L)
    position_ids: Tensor  # (B, L), or (3, B, L) with time, row and column
    visual_places: Tensor | None = None  # (B, L) bool, needed for deepstack
    deepstack: tuple[Tensor, ...] = ()  # each (n, D), added at the visual places after text layer 0, 1, ...
    records_attention: bool = False

    @property
    def next_positions(self) -> Tensor:
        """(B,) position of the token that would follow in each row; padding has small positions."""
        flat = self.position_ids.reshape(-1, *self.embeds.shape[:2])
        return flat.amax(dim=(0, 2)) + 1


class TextOutput(NamedTuple):
    """What the language model makes of its input."""

    states: Tensor  # (B, L, D), that [SEG] is read from
    attentions: tuple[Tensor, ...]  # of each layer (B, H, L, L) where they are recorded, else none


class Family(Protocol):
    """One family of native Transformers MLLMs. It keeps no state: `mllm` is what its own `build_mllm` returned."""

    image_token: str  # stands at each image place of a prompt
    picture_joint: str  # text between the pictures of a prompt
    takes_regions: bool  # its models were shown marked regions in training
    takes_any_size: bool  # its image encoder reads pictures of any size, else square tiles
    pixel_mean: tuple[float, float, float]  # of RGB in 0..1, subtracted before the image encoder
    pixel_std: tuple[float, float, float]
    # (part, field) of the native configuration that counts layers -> start of their tensors' names
    layer_names: Mapping[tuple[str, str], str]

    def build_mllm(self, config: dict[str, Any]) -> PreTrainedModel:
        """Build the native model with random weights from the `mllm` part of a Sa2VAConfig."""
        ...

    def language_model(self, mllm: Any) -> nn.Module:
        """Return the text model, without its head."""
        ...

    def vision_tower(self, mllm: Any) -> nn.Module:
        """Return the image encoder."""
        ...

    def vision_projector(self, mllm: Any) -> nn.Module:
        """Return what turns the image encoder's states into visual tokens."""
        ...

    def read_picture(self, picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
        """Prepare a picture (H, W, 3), or a frame of a clip, which may get less detail."""
        ...

    def image_block(self, num_tokens: int) -> str:
        """Return the prompt text that stands for one picture or frame."""
        ...

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode the `pixel_values` of all pictures; `grids` is (pictures, 3), or (0, 3) for square tiles."""
        ...

    def positions(self, mllm: Any, input_ids: Tensor, attention_mask: Tensor, grids: Tensor) -> Tensor:
        """Place the tokens of whole prompts: (B, L), or (3, B, L) with time, row and column."""
        ...

    def run_text(self, mllm: Any, inputs: TextInput, cache: DynamicCache | None) -> TextOutput:
        """Return the states that [SEG] is read from, and the attention."""
        ...

    def logits(self, mllm: Any, states: Tensor) -> Tensor:
        """Return the scores of the next token from states as `run_text` gives them: (..., D) -> (..., Y)."""
        ...
