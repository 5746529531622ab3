"""Decode answers token by token: a KV cache per stream, sampling per row, hidden states kept at [SEG].

Flow: prompt embeddings -> TextStream -> Decoding -> token ids and states at [SEG] -> engine.py.
Source: Sa2VA, arXiv:2501.04001: the hidden state is that of the step whose *input* is [SEG].
Shapes: B rows, L tokens, D width of the language model, V vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.inference.kv_cache import KvCache
from sa2va.inference.requests import StopFlag, never
from sa2va.model.batch import move
from sa2va.model.branches import additive_mask
from sa2va.model.families.protocol import TextInput
from sa2va.model.mllm import Mllm
from sa2va.model.torch_defaults import plain_inference

TokenStep = Callable[[Tensor, Tensor, Tensor, KvCache], Tensor]  # `Mllm.token_step`


class StreamMark(NamedTuple):
    """Bookmark of the end of a TextStream."""

    length: int
    next_positions: list[int]


class TextStream:
    """KV cache of a conversation: append tokens and read their hidden states; run a side branch and drop it.

    All rows of the batch share one length; shorter prompts are padded on the left. Lengths and positions are known on
    the host, so nothing here waits for the device.
    """

    def __init__(self, mllm: Mllm, token_step: TokenStep | None = None) -> None:
        """Open an empty stream.

        Args:
            mllm: runs the text.
            token_step: `mllm.token_step` compiled, for single tokens; None = run them like longer texts.
        """
        self._mllm = mllm
        self._token_step = None if mllm.has_window else token_step  # its mask has no sliding window
        self._cache = KvCache(mllm.num_layers)
        self._visible: Tensor | None = None  # (B, prompt length) bool, False at padding; None = no padding
        self.length = 0  # cached tokens per row, padding included
        self.next_positions: list[int] = []  # per row, position id of the next token; image tokens may share positions

    def start(self, inputs: TextInput) -> Tensor:
        """Prefill an empty stream with whole prompts, pictures included; return their hidden states (B, L, D)."""
        assert not self.length and inputs.attention_mask is not None
        positions, visible = inputs.next_positions.tolist(), inputs.attention_mask.bool()
        self._visible = None if bool(visible.all()) else move(visible, inputs.embeds.device)
        return self._feed(inputs, positions)

    def append(self, inputs_embeds: Tensor) -> Tensor:
        """Append (B, L, D) text embeddings to every row; return their hidden states (B, L, D)."""
        rows, number = inputs_embeds.shape[:2]
        first = self.next_positions or [0] * rows
        positions = torch.tensor([range(one, one + number) for one in first], device="cpu")
        inputs = TextInput(embeds=inputs_embeds, attention_mask=None, position_ids=positions)
        return self._feed(inputs, [one + number for one in first])

    def _feed(self, inputs: TextInput, next_positions: list[int]) -> Tensor:
        number = inputs.embeds.shape[1]
        mask = self._attention_mask(inputs.embeds)
        states = self._mllm.run_text(replace(inputs, attention_mask=mask), self._cache)
        self.length, self.next_positions = self.length + number, next_positions
        return states

    def _attention_mask(self, embeds: Tensor) -> Tensor | None:
        """Build the mask of new tokens (B, L, D): (B, 1, L, length + L); None = causal, without padding."""
        if self._visible is None:
            return None
        number = embeds.shape[1]
        total = self.length + number
        visible = F.pad(self._visible, (0, total - self._visible.shape[1]), value=True)
        if self._mllm.has_window:  # the native model adds its sliding window to a mask of two dimensions only
            return visible
        visible = visible[:, None, None]
        if number > 1:
            visible = visible & visible.new_ones(number, total).tril(self.length)
        return additive_mask(visible, embeds.dtype)

    def append_token(self, token_ids: Tensor) -> Tensor:
        """Append one token (B,) to every row; return its hidden states (B, D)."""
        if self._token_step is None:
            return self.append(self._mllm.embed_tokens(token_ids[:, None]))[:, 0]
        capacity, device = self._cache.reserve_token(), token_ids.device
        positions = move(torch.tensor(self.next_positions, device="cpu"), device)
        column = move(torch.tensor([self.length], device="cpu"), device)
        visible = torch.arange(capacity, device=device) <= column
        if self._visible is not None:
            visible = visible & F.pad(self._visible, (0, capacity - self._visible.shape[1]), value=True)
        visible = visible.expand(len(token_ids), capacity)[:, None, None]
        with self._cache.writing_at(column):
            states = self._token_step(token_ids, positions, visible, self._cache)
        self.length, self.next_positions = self.length + 1, [one + 1 for one in self.next_positions]
        return states

    def probe(self, inputs_embeds: Tensor) -> Tensor:
        """Run a side branch (B, L, D), return its hidden states (B, L, D), and restore the stream."""
        mark = self.mark()
        states = self.append(inputs_embeds)
        self.go_back(mark)
        return states

    def keep_rows(self, rows: Tensor) -> None:
        """Keep some rows of the batch, (rows,) long on the host, and drop the others."""
        self._cache.batch_select_indices(rows)
        self.next_positions = [self.next_positions[row] for row in rows]
        if self._visible is not None:
            self._visible = select_rows(self._visible, rows)

    def mark(self) -> StreamMark:
        """Return a bookmark of the end of the cache, for `go_back`."""
        return StreamMark(self.length, self.next_positions)

    def go_back(self, mark: StreamMark) -> None:
        """Truncate the cache to a bookmark."""
        self.length, self.next_positions = mark
        self._cache.truncate(self.length)

    def drop_last(self, number: int) -> None:
        """Remove the last text tokens of every row."""
        if number:
            self.go_back(StreamMark(self.length - number, [position - number for position in self.next_positions]))


def select_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Select rows of a tensor by their numbers on the host, without waiting for the device."""
    return values.index_select(0, move(rows, values.device))


def keep_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Set all probabilities (V,) to 0 but the largest, as few as sum to `top_p` (0..1); the host does not wait.

    Source: nucleus sampling, arXiv:1904.09751. What is kept is not normalized again.
    """
    largest, order = probabilities.sort(descending=True, stable=True)
    kept = largest.cumsum(-1) - largest < top_p  # the sum before a token is still too small
    return torch.zeros_like(probabilities).scatter(-1, order, largest * kept)


def replace_text(inputs: TextInput, start: int, embeds: Tensor) -> TextInput:
    """Replace the embeddings of a prompt (1, L, D) from position `start` on; only text may follow there."""
    number, known = embeds.shape[1], inputs.position_ids[..., :start]
    added = known.max() + torch.arange(1, number + 1, device=known.device)
    places = inputs.visual_places
    return replace(
        inputs,
        embeds=torch.cat([inputs.embeds[:, :start], embeds], dim=1),
        attention_mask=inputs.position_ids.new_ones(1, start + number),
        position_ids=torch.cat([known, added.expand(*known.shape[:-1], -1)], dim=-1),
        visual_places=None if places is None else F.pad(places[:, :start], (0, number)),
    )


@dataclass(frozen=True, kw_only=True)
class DecodingRules:
    """Sampling and stopping rules of one row."""

    end_ids: tuple[int, ...]  # end-of-answer tokens; any of them ends the row
    has_ended: Callable[[Sequence[int]], bool] = lambda token_ids: False  # whether tokens reach a stop string
    seg_ids: Collection[int]  # mask tokens, whose states are kept
    max_new_tokens: int
    temperature: float = 0.0  # 0 = greedy
    top_p: float = 1.0  # see `keep_nucleus`; 1 = all tokens
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
        self._chosen = torch.zeros(len(rules), dtype=torch.long, device=last_state.device)  # their newest tokens

    def __iter__(self) -> Iterator[list[int]]:
        """Yield per step the new token of each unfinished row."""
        while self._keep([self._goes_on(row) for row in self._rows]):
            self._chosen = self._choose()
            chosen = self._chosen.tolist()  # the only wait for the device in a step
            going = [token not in self._rules[row].end_ids for row, token in zip(self._rows, chosen, strict=True)]
            if not self._keep(going):
                return
            tokens = [token for token, goes_on in zip(chosen, going, strict=True) if goes_on]
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
        """Append the chosen token of each unfinished row; `tokens` are their ids on the host."""
        self._state = self._stream.append_token(self._chosen)
        for row, token, state in zip(self._rows, tokens, self._state, strict=True):
            self.token_ids[row].append(token)
            if token in self._rules[row].seg_ids:
                self.seg_states[row].append(state)
            self.said_end[row] = self._rules[row].has_ended(self.token_ids[row])

    @plain_inference()
    def _keep(self, going: list[bool]) -> bool:
        """Drop finished rows. If all are finished, keep the stream as it is and return False."""
        if any(going) and not all(going):
            kept = torch.tensor([index for index, goes_on in enumerate(going) if goes_on], device="cpu")
            self._stream.keep_rows(kept)
            self._state, self._chosen = select_rows(self._state, kept), select_rows(self._chosen, kept)
            self._rows = [self._rows[index] for index in kept]
        return any(going)

    @plain_inference()
    def _choose(self) -> Tensor:
        """Choose the next token of each unfinished row, (rows,) on the device."""
        logits = self._mllm.logits(self._state).float()  # (rows, V)
        chosen = logits.argmax(-1)
        for index, row in enumerate(self._rows):
            if self._rules[row].temperature > 0:
                chosen[index] = self._sample(row, logits[index])
        return chosen

    def _sample(self, row: int, logits: Tensor) -> Tensor:
        """Sample one row's next token from its logits (V,)."""
        # Subtract the maximum first: at a tiny temperature logits would overflow, and softmax would return NaN.
        below = (logits - logits.amax()).double()
        probabilities = (below / self._rules[row].temperature).float().softmax(-1)
        if self._rules[row].top_p < 1:
            probabilities = keep_nucleus(probabilities, self._rules[row].top_p)
        # What torch.multinomial does for one sample, without its check of the probabilities, for which the host waits.
        race = torch.empty_like(probabilities).exponential_(generator=self._generators[row])
        return (probabilities / race).argmax()

    def stack_seg_states(self, row: int, token_ids: Sequence[int]) -> Tensor:
        """Return the states (M, D) at the mask tokens among the first tokens of a row, `token_ids`."""
        number = sum(token in self._rules[row].seg_ids for token in token_ids)
        states = self.seg_states[row][:number]
        return torch.stack(states) if states else self._state.new_zeros(0, self._state.shape[-1])

    def finish(self) -> Self:
        """Decode every row to its end."""
        for _ in self:
            pass
        return self
