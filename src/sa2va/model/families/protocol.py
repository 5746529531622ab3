"""Define the interface of an MLLM family and the tensors that it takes and returns.

Flow: processor.py -> Picture -> Mllm.embed_inputs -> VisualTokens -> TextInput -> states.
Shapes: B samples, L tokens, D width, V visual tokens of all pictures, n image tokens of the batch, Y vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from sa2va.model.config import Sa2VAConfig

NO_GRID = (0, 0, 0)


@dataclass(frozen=True)
class Picture:
    """One picture, or one frame of a clip, as input of a family's image encoder."""

    pixel_values: Tensor  # rows of the encoder's input: (P, 3, s, s) tiles, or (patches, values of a patch)
    num_tokens: int  # visual tokens of the picture
    grid: tuple[int, int, int] = NO_GRID  # time, rows, columns of patches, if the encoder takes any size
    is_next: bool = False  # a frame of a clip that follows the frame before it


def list_clips(pictures: Sequence[Picture]) -> Tensor:
    """List the clips among all pictures of a batch: (C, 2) long, first visual token and number of frames."""
    clips: list[list[int]] = []
    first = begin = 0  # first visual token of this picture, and of the last one that is no next frame
    for picture in pictures:
        if not picture.is_next:
            begin = first
        elif clips and clips[-1][0] == begin:
            clips[-1][1] += 1
        else:
            clips.append([begin, 2])
        first += picture.num_tokens
    return torch.tensor(clips, dtype=torch.long).reshape(-1, 2)


@dataclass(frozen=True)
class VisualTokens:
    """Output of the image encoder after the projector."""

    tokens: Tensor  # (V, D)
    deepstack: tuple[Tensor, ...] = ()  # each (V, D), added to the states after text layer 0, 1, ...


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """Input of the text model. Mask and positions may stay on the host, where reading them waits for no device."""

    embeds: Tensor  # (B, L, D), image tokens replaced by visual tokens
    # (B, cached + L), or (B, 1, L, cached + L), boolean or additive; None = causal, without padding
    attention_mask: Tensor | None
    position_ids: Tensor  # (B, L), or (3, B, L) with time, row and column
    visual_places: Tensor | None = None  # (B, L) bool, True at visual tokens; needed for deepstack
    deepstack: tuple[Tensor, ...] = ()  # each (n, D), added at the visual tokens after text layer 0, 1, ...
    records_attention: bool = False
    lengths: tuple[int, ...] = ()  # of the sequences packed in a single row; empty = one sequence a row

    @property
    def next_positions(self) -> Tensor:
        """(B,) position of the token after each row, for a KV cache. Padding never has the largest position."""
        flat = self.position_ids.reshape(-1, *self.embeds.shape[:2])
        return flat.amax(dim=(0, 2)) + 1


class TextOutput(NamedTuple):
    """Output of the text model."""

    states: Tensor  # (B, L, D), hidden states from which [SEG] is read
    attentions: tuple[Tensor, ...]  # (B, H, L, L) per layer if recorded, else empty


class Family(Protocol):
    """Family of native Transformers MLLMs. Stateless: `mllm` is a model returned by `build_mllm`."""

    image_token: str  # placeholder of one visual token in a prompt
    picture_joint: str  # text between the pictures of a prompt
    takes_regions: bool  # trained with marked regions
    takes_any_size: bool  # the image encoder takes pictures of any size, else square tiles
    pixel_mean: tuple[float, float, float]  # of RGB in 0..1, subtracted before the image encoder
    pixel_std: tuple[float, float, float]
    # (part, field) of the native configuration that gives a number of layers -> prefix of these layers' tensor names
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
        """Return the projector from image encoder states to visual tokens."""
        ...

    def read_picture(self, picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
        """Prepare the pixels of a picture (H, W, 3), or of a frame of a clip, which may get fewer tokens."""
        ...

    def image_block(self, num_tokens: int) -> str:
        """Return the image tokens of one picture or frame, with delimiters if the family has some."""
        ...

    def encode_images(self, mllm: Any, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Encode the pixels of all pictures to visual tokens; `grids` is (pictures, 3), or (0, 3) for square tiles."""
        ...

    def positions(self, mllm: Any, input_ids: Tensor, attention_mask: Tensor, grids: Tensor) -> Tensor:
        """Compute the position ids of whole prompts: (B, L), or (3, B, L) with time, row and column."""
        ...

    def run_text(self, mllm: Any, inputs: TextInput, cache: Cache | None) -> TextOutput:
        """Return the hidden states from which [SEG] is read, and the attention."""
        ...

    def logits(self, mllm: Any, states: Tensor) -> Tensor:
        """Return the logits of the next token from the states of `run_text`: (..., D) -> (..., Y)."""
        ...
