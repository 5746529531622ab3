"""Run the multimodal language model: embeddings in, hidden states and text out, one KV cache per stream.

Flow: processor.py (Batch) -> embed_inputs -> forward (training) or open_stream -> generate (inference)
    -> states at [SEG] -> projector.py.
Source: Sa2VA, arXiv:2501.04001: the state is read where [SEG] is the *input*, after the text model's final norm.
Shapes: B samples, L tokens, P tiles, D width, V vocabulary, N [SEG] tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from sa2va.model.backbones.catalog import FAMILIES


class TextStream:
    """A conversation held open: append tokens, read the states, probe a side branch and drop it.

    All rows of the batch share one length; shorter prompts are padded on the left.
    """

    def __init__(self, mllm: "Mllm") -> None:
        self._mllm = mllm
        self._cache = DynamicCache()
        self._mask: Tensor | None = None  # (B, length so far)

    @property
    def length(self) -> int:
        """Number of positions in the cache, padding included."""
        return 0 if self._mask is None else self._mask.shape[1]

    def append(self, inputs_embeds: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Feed (B, L, D) embeddings; return their hidden states (B, L, D) after the final norm."""
        if attention_mask is None:
            attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        whole = attention_mask if self._mask is None else torch.cat([self._mask, attention_mask], dim=1)
        states = self._mllm.run_text(inputs_embeds, whole, cache=self._cache)
        self._mask = whole
        return states

    def probe(self, inputs_embeds: Tensor) -> Tensor:
        """Feed a side branch, return its states (B, L, D), and leave the stream as it was."""
        length, mask = self.length, self._mask
        states = self.append(inputs_embeds)
        self._cache.crop(length)
        self._mask = mask
        return states


@dataclass(frozen=True)
class Generation:
    """What `generate` gives back, row by row."""

    token_ids: list[list[int]]  # answer without prompt and end token
    seg_states: list[Tensor]  # per row (number of [SEG] in the answer, D)


class Mllm(nn.Module):
    """A native Transformers MLLM behind the few calls that Sa2VA needs."""

    def __init__(self, family: str, config: dict[str, Any]) -> None:
        super().__init__()
        self._family = FAMILIES[family]
        self.native = self._family.build_mllm(config)

    @property
    def width(self) -> int:
        """D, width of the hidden states."""
        return self.native.get_input_embeddings().embedding_dim

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        return self.native.get_input_embeddings()(input_ids)  # (B, L) -> (B, L, D)

    def embed_inputs(self, input_ids: Tensor, pixel_values: Tensor, visual_index: Tensor) -> Tensor:
        """Embed the text and put a visual token at every image place, in order.

        Args:
            input_ids: (B, L).
            pixel_values: (P, 3, s, s), normalised.
            visual_index: (n,) for each image place, in reading order, which of the P * tokens visual tokens
                stands there. Regions repeat tokens of the picture, so an index can occur more than once.

        Returns:
            (B, L, D).

        Raises:
            ValueError: the number of image places differs from the number of visual tokens, which means that
                text and pictures belong to different prompts.
        """
        embeds = self.embed_tokens(input_ids)
        places = input_ids == self.native.config.image_token_id
        if int(places.sum()) != len(visual_index):
            raise ValueError(f"{int(places.sum())} image places in the text, {len(visual_index)} visual tokens")
        if len(visual_index) == 0:
            return embeds
        visual = self._family.encode_images(self.native, pixel_values)  # (P, tokens, D)
        visual = visual.flatten(0, 1)[visual_index].to(embeds.dtype)  # (n, D)
        return embeds.masked_scatter(places[..., None], visual)

    def run_text(self, inputs_embeds: Tensor, attention_mask: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """Return the hidden states (B, L, D); `attention_mask` covers the cached positions too."""
        new = inputs_embeds.shape[1]
        position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
        output = self._family.language_model(self.native)(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state

    def logits(self, hidden_states: Tensor) -> Tensor:
        return self.native.lm_head(hidden_states)  # (..., D) -> (..., V)

    def open_stream(self) -> TextStream:
        """Open an empty stream with its own KV cache."""
        return TextStream(self)

    @torch.no_grad()
    def generate(
        self,
        stream: TextStream,
        last_state: Tensor,
        *,
        end_ids: tuple[int, ...],
        seg_id: int,
        max_new_tokens: int,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        on_token: Any = None,
    ) -> Generation:
        """Answer from an open stream and keep only the states at [SEG].

        Args:
            stream: holds the prompt.
            last_state: (B, D) state of the prompt's last token.
            end_ids: any of them ends a row.
            seg_id: id of [SEG].
            max_new_tokens: a row that reaches it is cut; a [SEG] that comes last still gets its state.
            temperature: 0 = greedy.
            generator: the source of randomness where temperature > 0.
            on_token: called with the (B,) ids of each step, for streaming.
        """
        batch = last_state.shape[0]
        answers: list[list[int]] = [[] for _ in range(batch)]
        states: list[list[Tensor]] = [[] for _ in range(batch)]
        alive = torch.ones(batch, dtype=torch.bool, device=last_state.device)
        for _ in range(max_new_tokens):
            token = self._pick(self.logits(last_state).float(), temperature, generator)  # (B,)
            for end in end_ids:
                alive = alive & (token != end)
            if not alive.any():
                break
            if on_token is not None:
                on_token(token)
            last_state = stream.append(self.embed_tokens(token[:, None]))[:, 0]
            for row in alive.nonzero()[:, 0].tolist():
                answers[row].append(int(token[row]))
                if answers[row][-1] == seg_id:
                    states[row].append(last_state[row])
        empty = last_state.new_zeros(0, last_state.shape[1])
        return Generation(answers, [torch.stack(rows) if rows else empty for rows in states])

    @staticmethod
    def _pick(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
        if temperature <= 0:
            return logits.argmax(-1)
        probabilities = (logits / temperature).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
