"""Run the multimodal language model: embeddings in, hidden states and text out, one KV cache per stream.

Flow: processor.py (Batch) -> embed_inputs -> forward (training) or open_stream -> Decoding (inference)
    -> states at [SEG] -> projector.py.
Source: Sa2VA, arXiv:2501.04001: the state is read where [SEG] is the *input*, after the text model's final norm.
Shapes: B samples, L tokens, P tiles, D width, V vocabulary, N [SEG] tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

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


class Decoding:
    """An answer in the making: iterate to get each step's tokens; the states at [SEG] are kept on the way.

    Attributes:
        token_ids: per row, the answer without prompt and end token.
        seg_states: per row, the (D,) state of each [SEG] so far.
    """

    def __init__(self, mllm: "Mllm", stream: TextStream, last_state: Tensor, rules: "DecodingRules") -> None:
        self._mllm, self._stream, self._state, self._rules = mllm, stream, last_state, rules
        self.token_ids: list[list[int]] = [[] for _ in range(len(last_state))]
        self.seg_states: list[list[Tensor]] = [[] for _ in range(len(last_state))]
        # One generator a row, so that a row draws the same alone as in a batch.
        self._generators = [torch.Generator(last_state.device).manual_seed(rules.seed) for _ in last_state]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield, step by step, the new token of each row; a row that has ended repeats its end token."""
        rules = self._rules
        ended = [False] * len(self.token_ids)
        for _ in range(rules.max_new_tokens):
            tokens = self._pick()
            ended = [was or token in rules.end_ids for was, token in zip(ended, tokens, strict=True)]
            if all(ended):
                return
            ids = torch.tensor(tokens, device=self._state.device)[:, None]
            with torch.no_grad():
                self._state = self._stream.append(self._mllm.embed_tokens(ids))[:, 0]
            for row, token in enumerate(tokens):
                if not ended[row]:
                    self.token_ids[row].append(token)
                    if token == rules.seg_id:
                        self.seg_states[row].append(self._state[row])
            yield tokens

    @torch.no_grad()
    def _pick(self) -> list[int]:
        logits = self._mllm.logits(self._state).float()  # (B, V)
        if self._rules.temperature <= 0:
            return logits.argmax(-1).tolist()
        chances = (logits / self._rules.temperature).softmax(-1)
        return [int(torch.multinomial(p, 1, generator=g)) for p, g in zip(chances, self._generators, strict=True)]

    def finish(self) -> Self:
        """Run to the end."""
        for _ in self:
            pass
        return self


@dataclass(frozen=True, kw_only=True)
class DecodingRules:
    """How an answer is picked and when it ends."""

    end_ids: tuple[int, ...]  # any of them ends a row
    seg_id: int
    max_new_tokens: int
    temperature: float = 0.0  # 0 = greedy
    seed: int = 0


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
