"""Run the multimodal language model: embeddings in, hidden states and next-token logits out.

Flow: processor.py (Prompts) -> embed_inputs -> run_text (training), or inference/decoding.py with a KV cache
    -> states at [SEG] -> projector.py.
Source: Sa2VA, arXiv:2501.04001: the hidden state is read at the position whose *input* is [SEG].
Shapes: B samples, L tokens, n image tokens, D width, V vocabulary.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from sa2va.model.attention import BLOCKWISE
from sa2va.model.batch import Prompts, move
from sa2va.model.branches import additive_mask, branch_mask, branch_positions
from sa2va.model.families.catalog import find_family
from sa2va.model.families.protocol import TextInput, VisualTokens
from sa2va.model.temporal import TemporalConfig, TemporalEncoder


class Mllm(nn.Module):
    """Wrapper of a native Transformers MLLM: embed inputs, run the text model, score tokens."""

    def __init__(self, family: str, config: dict[str, Any], temporal: TemporalConfig | None = None) -> None:
        super().__init__()
        self._family = find_family(family)
        if temporal is not None and self._family.takes_any_size:
            raise ValueError(f"temporal_heads is {temporal.num_heads}; expected 0, since {family} cuts no tiles")
        # A copy, since a native config modifies its nested dictionaries.
        self.native: Any = self._family.build_mllm(deepcopy(config))
        self.temporal = None if temporal is None else TemporalEncoder(temporal, self.width)
        for part in (self.vision_tower, self.text_model):
            if part.config._attn_implementation == "sdpa":  # else the config asks for another
                part.set_attn_implementation(BLOCKWISE)

    @property
    def width(self) -> int:
        """D, width of the hidden states."""
        return self.native.get_input_embeddings().embedding_dim

    @property
    def max_places(self) -> int | None:
        """Number of positions that the language model supports. A picture may take fewer positions than tokens."""
        return getattr(self.native.config.get_text_config(), "max_position_embeddings", None)

    @property
    def num_layers(self) -> int:
        """Number of layers of the text model."""
        return self.native.config.get_text_config().num_hidden_layers

    @property
    def has_window(self) -> bool:
        """Whether attention reaches back fewer tokens than the language model supports."""
        window = getattr(self.native.config.get_text_config(), "sliding_window", None)
        return window is not None and (self.max_places is None or window < self.max_places)

    def check_length(self, number: int, room: int) -> None:
        """Refuse a prompt with fewer than `room` free positions after it.

        Args:
            number: positions of the prompt and of the conversation before it.
            room: positions that the answer needs.

        Raises:
            ValueError: together they exceed the positions of the language model.
        """
        most = self.max_places
        if most is None or number + room <= most:
            return
        fewer = "" if number >= most else f", set max_new_tokens to at most {most - number}"
        raise ValueError(
            f"text and pictures take {number} positions and the answer needs {room}, but this language model reads at "
            f"most {most}; shorten the prompt, give fewer pictures{fewer} or begin a new conversation"
        )

    @property
    def text_model(self) -> Any:
        """The native text model, without its head."""
        return self._family.language_model(self.native)

    @property
    def vision_tower(self) -> Any:
        """The native image encoder."""
        return self._family.vision_tower(self.native)

    @property
    def vision_projector(self) -> nn.Module:
        """Projector from image encoder states to visual tokens."""
        return self._family.vision_projector(self.native)

    @property
    def word_embeddings(self) -> Tensor:
        """(V, D) input embeddings."""
        return self.native.get_input_embeddings().weight

    @property
    def image_token_id(self) -> int:
        """Id of the image token."""
        return self.native.config.image_token_id

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        # Layers of the native model may be on several devices; outputs return to the device of the input.
        return self.native.get_input_embeddings()(input_ids).to(input_ids.device)  # (B, L) -> (B, L, D)

    def embed_text(self, token_ids: Sequence[int], device: torch.device) -> Tensor:
        """Embed one row of token ids: (1, L, D)."""
        return self.embed_tokens(move(torch.tensor([list(token_ids)], device="cpu"), device))

    def embed_inputs(self, prompts: Prompts, device: torch.device | None = None) -> TextInput:
        """Embed the text and replace each image token by a visual token, in order.

        Args:
            prompts: on the host or on the device. Image tokens are counted and positions computed where they are, so
                prompts on the host cause no wait for the device.
            device: of the embeddings; None = that of the prompts.

        Raises:
            ValueError: the numbers of image tokens and visual tokens differ, so text and pictures belong to different
                prompts.
        """
        family, native, index, clips = self._family, self.native, prompts.visual_index, prompts.clips
        places = prompts.input_ids == self.image_token_id
        if int(places.sum()) != len(index):
            raise ValueError(f"{int(places.sum())} image tokens in the text, {len(index)} visual tokens")
        attention_mask = prompts.attention_mask
        position_ids = family.positions(native, prompts.input_ids, attention_mask, prompts.grids)
        prompts = prompts if device is None else prompts.to(device)
        inputs = TextInput(
            embeds=self.embed_tokens(prompts.input_ids), attention_mask=attention_mask, position_ids=position_ids
        )
        if prompts.branches is not None:
            inputs = replace(
                inputs,
                attention_mask=branch_mask(prompts.branches, inputs.embeds.dtype),
                position_ids=branch_positions(prompts.branches, position_ids),
            )
        if len(index) == 0:
            return inputs
        visual = self.encode_images(prompts.pixel_values.to(inputs.embeds.dtype), prompts.grids)
        tokens = visual.tokens if self.temporal is None else self.temporal(visual.tokens, clips)
        index, places = prompts.visual_index, move(places, inputs.embeds.device)
        seen = tokens[index].to(inputs.embeds)  # (n, D)
        return replace(
            inputs,
            embeds=inputs.embeds.masked_scatter(places[..., None], seen),
            visual_places=places,
            deepstack=tuple(level[index] for level in visual.deepstack),
        )

    def encode_images(self, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Run the image encoder and the projector; see `Prompts` for the shapes."""
        return self._family.encode_images(self.native, pixel_values, grids)

    def run_text(self, inputs: TextInput, cache: Cache | None = None) -> Tensor:
        """Run the text model on the new tokens; return the hidden states (B, L, D) from which [SEG] is read."""
        return self._family.run_text(self.native, inputs, cache).states.to(inputs.embeds.device)

    def run_packed(self, inputs: TextInput) -> Tensor:
        """Run the text model on whole rows, without computing their padding; return the states (B, L, D), 0 in padding.

        All rows become one; attention keeps them apart. Only BLOCKWISE attention can, and only without a given mask.
        """
        mask = inputs.attention_mask
        if mask is None or mask.ndim != 2 or self.text_model.config._attn_implementation != BLOCKWISE:
            return self.run_text(inputs)
        embeds, kept = inputs.embeds, mask.bool()
        places = kept.flatten().nonzero().flatten().to(embeds.device)  # (T,) tokens of all rows

        def pack(tensor: Tensor) -> Tensor:
            """Pack the tokens of (..., B, L): (..., 1, T)."""
            return tensor.flatten(-2)[..., places.to(tensor.device)].unsqueeze(-2)

        packed = replace(
            inputs,
            embeds=embeds.flatten(0, 1)[None, places],
            attention_mask=torch.ones(1, len(places), dtype=torch.long),
            position_ids=pack(inputs.position_ids),
            visual_places=None if inputs.visual_places is None else pack(inputs.visual_places),
            lengths=tuple(kept.sum(1).tolist()),
        )
        states = self.run_text(packed)[0]
        rows = states.new_zeros(mask.numel(), states.shape[-1]).index_copy(0, places, states)
        return rows.view(*mask.shape, -1)

    def token_step(self, token_ids: Tensor, positions: Tensor, visible: Tensor, cache: Cache) -> Tensor:
        """Run one token per row on a cache of fixed shape; torch.compile takes it without a graph break.

        Args:
            token_ids: (B,) long.
            positions: (B,) long, their position ids.
            visible: (B, 1, 1, C) bool, columns of the cache that they attend to.
            cache: with buffers of C columns.

        Returns:
            Hidden states (B, D), as of `run_text`.
        """
        embeds = self.embed_tokens(token_ids[:, None])
        mask = additive_mask(visible, embeds.dtype)
        inputs = TextInput(embeds=embeds, attention_mask=mask, position_ids=positions[:, None])
        return self.run_text(inputs, cache)[:, 0]

    def fix_positions(self) -> None:
        """Keep the rotary frequencies of "dynamic" scaling, for which the host would wait in every forward pass.

        They change beyond `max_places` only, and `check_length` refuses those.
        """
        rotary = getattr(self.text_model, "rotary_emb", None)
        if getattr(rotary, "rope_type", None) == "dynamic":
            rotary.rope_type = "default"  # ty: ignore[invalid-assignment]

    def record_attention(self) -> None:
        """Switch the text model to eager attention, which returns its weights."""
        self.text_model.set_attn_implementation("eager")

    def run_text_recorded(self, inputs: TextInput, layers: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the states (B, L, D) and the attention (B, H, L, L) of some layers; see `record_attention`."""
        if not layers:
            return self.run_packed(inputs), {}
        output = self._family.run_text(self.native, replace(inputs, records_attention=True), None)
        assert output.attentions, "call record_attention first; other implementations return no attention"
        return output.states.to(inputs.embeds.device), {layer: output.attentions[layer] for layer in layers}

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Return the logits of the next token from the states of `run_text`: (..., D) -> (..., V)."""
        return self._family.logits(self.native, hidden_states).to(hidden_states.device)
