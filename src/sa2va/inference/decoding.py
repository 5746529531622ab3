"""Decode answers token by token: a KV cache per stream, sampling per row, hidden states kept at [SEG].

Flow: prompt embeddings -> TextStream -> Decoding -> token ids and states at [SEG] -> engine.py.
Source: Sa2VA, arXiv:2501.04001: the hidden state is that of the step whose *input* is [SEG].
Shapes: B rows, L tokens, D width of the language model, V vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sa2va.inference.requests import StopFlag, never
from sa2va.model.families.protocol import TextInput
from sa2va.model.mllm import Mllm
from sa2va.model.torch_defaults import plain_inference

StreamMark = tuple[Tensor | None, Tensor | None]  # attention mask and next positions of a TextStream


class TextStream:
    """KV cache of a conversation: append tokens and read their hidden states; run a side branch and drop it.

    All rows of the batch share one length; shorter prompts are padded on the left.
    """

    def __init__(self, mllm: Mllm) -> None:
        self._mllm = mllm
        self._cache = DynamicCache()
        self._mask: Tensor | None = None  # (B, length so far)
        self._next: Tensor | None = None  # (B,) position of the next token; image tokens may share positions

    @property
    def length(self) -> int:
        """Number of cached tokens per row, padding included."""
        return 0 if self._mask is None else self._mask.shape[1]

    @property
    def next_positions(self) -> list[int]:
        """Position id of each row's next token."""
        return [] if self._next is None else self._next.tolist()

    def start(self, inputs: TextInput) -> Tensor:
        """Prefill an empty stream with whole prompts, pictures included; return their hidden states (B, L, D)."""
        assert self._mask is None
        return self._feed(inputs)

    def append(self, inputs_embeds: Tensor) -> Tensor:
        """Append (B, L, D) text embeddings to every row; return their hidden states (B, L, D)."""
        new = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        first = new.new_zeros(len(new)) if self._next is None else self._next
        inputs = TextInput(
            embeds=inputs_embeds,
            attention_mask=new if self._mask is None else torch.cat([self._mask, new], dim=1),
            position_ids=first[:, None] + new.cumsum(1) - 1,
        )
        return self._feed(inputs)

    def _feed(self, inputs: TextInput) -> Tensor:
        states = self._mllm.run_text(inputs, self._cache)
        self._mask, self._next = inputs.attention_mask, inputs.next_positions
        return states

    def probe(self, inputs_embeds: Tensor) -> Tensor:
        """Run a side branch (B, L, D), return its hidden states (B, L, D), and restore the stream."""
        mark = self.mark()
        states = self.append(inputs_embeds)
        self.go_back(mark)
        return states

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Keep some rows of the batch and drop the others."""
        assert self._mask is not None and self._next is not None
        index = torch.tensor(rows, device=self._mask.device)
        self._mask, self._next = self._mask[index], self._next[index]
        self._cache.batch_select_indices(index)

    def mark(self) -> StreamMark:
        """Return a bookmark of the end of the cache, for `go_back`."""
        return self._mask, self._next

    def go_back(self, mark: StreamMark) -> None:
        """Truncate the cache to a bookmark."""
        self._mask, self._next = mark
        for layer in self._cache.layers:  # one by one: a failed forward pass has filled only some of them
            assert isinstance(layer, DynamicLayer)
            if (added := layer.get_seq_length() - self.length) > 0:
                layer.crop(-added)


def replace_text(inputs: TextInput, start: int, embeds: Tensor) -> TextInput:
    """Replace the embeddings of a prompt (1, L, D) from position `start` on; only text may follow there."""
    number, known = embeds.shape[1], inputs.position_ids[..., :start]
    added = known.max() + torch.arange(1, number + 1, device=known.device)
    places = inputs.visual_places
    return replace(
        inputs,
        embeds=torch.cat([inputs.embeds[:, :start], embeds], dim=1),
        attention_mask=inputs.attention_mask.new_ones(1, start + number),
        position_ids=torch.cat([known, added.expand(*known.shape[:-1], -1)], dim=-1),
        visual_places=None if places is None else F.pad(places[:, :start], (0, number)),
    )


@dataclass(frozen=True, kw_only=True)
class DecodingRules:
    """Sampling and stopping rules of one row."""

    end_ids: tuple[int, ...]  # end-of-answer tokens; any of them ends the row
    has_ended: Callable[[Sequence[int]], bool] = lambda token_ids: False  # whether tokens end in a stop string
    seg_ids: Collection[int]  # mask tokens, whose states are kept
    max_new_tokens: int
    temperature: float = 0.0  # 0 = greedy
    seed: int = 0
    stop: StopFlag = never  # called before each token; True cancels the row


class Decoding:
    """Iterator over the decoding steps of a batch: one token per step and row, hidden states at [SEG] kept.

    A finished row leaves the batch while others continue.

    Attributes:
        token_ids: per row, the answer without prompt and end token.
        seg_states: per row, the (D,) hidden state of each [SEG] so far.
        said_end: per row, whether the answer ended in a stop string, which is then part of `token_ids` and the stream.
        cancelled: per row, whether its stop flag was set.
    """

    def __init__(self, mllm: Mllm, stream: TextStream, last_state: Tensor, rules: Sequence[DecodingRules]) -> None:
        """Start from the last hidden states (B, D) of the prompts, with one set of rules per row."""
        assert len(rules) == len(last_state)
        self._mllm, self._stream, self._state, self._rules = mllm, stream, last_state, rules
        self.token_ids: list[list[int]] = [[] for _ in rules]
        self.seg_states: list[list[Tensor]] = [[] for _ in rules]
        self.said_end = [False] * len(rules)
        self.cancelled = [False] * len(rules)
        # One generator per row, so that a row samples the same tokens by itself as in a batch.
        self._generators = [torch.Generator(last_state.device).manual_seed(rule.seed) for rule in rules]
        self._rows = list(range(len(rules)))  # unfinished rows, in the order of the stream

    def __iter__(self) -> Iterator[list[int]]:
        """Yield per step the new token of each unfinished row."""
        while self._keep([self._goes_on(row) for row in self._rows]):
            picked = self._pick()
            going = [token not in self._rules[row].end_ids for row, token in zip(self._rows, picked, strict=True)]
            if not self._keep(going):
                return
            tokens = [token for token, goes_on in zip(picked, going, strict=True) if goes_on]
            self._feed(tokens)
            yield tokens

    def _goes_on(self, row: int) -> bool:
        rules = self._rules[row]
        if self.said_end[row] or len(self.token_ids[row]) >= rules.max_new_tokens:
            return False
        self.cancelled[row] = rules.stop()
        return not self.cancelled[row]

    @plain_inference()
    def _feed(self, tokens: list[int]) -> None:
        """Append one token to each unfinished row."""
        ids = torch.tensor(tokens, dtype=torch.long, device=self._state.device)[:, None]
        self._state = self._stream.append(self._mllm.embed_tokens(ids))[:, 0]
        for row, token, state in zip(self._rows, tokens, self._state, strict=True):
            self.token_ids[row].append(token)
            if token in self._rules[row].seg_ids:
                self.seg_states[row].append(state)
            self.said_end[row] = self._rules[row].has_ended(self.token_ids[row])

    @plain_inference()
    def _keep(self, going: list[bool]) -> bool:
        """Drop finished rows. If all are finished, keep the stream as it is and return False."""
        if any(going) and not all(going):
            kept = [index for index, goes_on in enumerate(going) if goes_on]
            self._stream.keep_rows(kept)
            self._state = self._state[kept]
            self._rows = [self._rows[index] for index in kept]
        return any(going)

    @plain_inference()
    def _pick(self) -> list[int]:
        """Choose the next token of each unfinished row."""
        logits = self._mllm.logits(self._state).float()  # (B, V)
        tokens = logits.argmax(-1).tolist()
        for index, row in enumerate(self._rows):
            if self._rules[row].temperature > 0:
                tokens[index] = self._sample(row, logits[index])
        return tokens

    def _sample(self, row: int, logits: Tensor) -> int:
        """Sample one row's next token from its logits (V,)."""
        # Subtract the maximum first: at a tiny temperature logits would overflow, and softmax would return NaN.
        below = (logits - logits.amax()).double()
        probabilities = (below / self._rules[row].temperature).float().softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generators[row]))

    def finish(self) -> Self:
        """Decode every row to its end."""
        for _ in self:
            pass
        return self
