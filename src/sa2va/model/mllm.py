"""Run the multimodal language model: embeddings in, hidden states and text out, one KV cache per stream.

Flow: processor.py (Prompts) -> embed_inputs -> run_text (training) or open_stream -> Decoding (inference)
    -> states at [SEG] -> projector.py.
Source: Sa2VA, arXiv:2501.04001: the state is read where [SEG] is the *input*.
Shapes: B samples, L tokens, n image places, D width, V vocabulary, N [SEG] tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from sa2va.model.batch import Prompts
from sa2va.model.branches import branch_mask, branch_positions
from sa2va.model.families.catalog import find_family
from sa2va.model.families.protocol import TextInput, VisualTokens
from sa2va.model.torch_defaults import plain_defaults

StreamMark = tuple[Tensor | None, Tensor | None]  # of a TextStream: its mask and its next position


class TextStream:
    """A conversation held open: append tokens, read the states, probe a side branch and drop it.

    All rows of the batch share one length; shorter prompts are padded on the left.
    """

    def __init__(self, mllm: "Mllm") -> None:
        self._mllm = mllm
        self._cache = DynamicCache()
        self._mask: Tensor | None = None  # (B, length so far)
        self._next: Tensor | None = None  # (B,) position of the next token; a picture may take fewer than it has tokens

    @property
    def length(self) -> int:
        """Number of places in the cache, padding included."""
        return 0 if self._mask is None else self._mask.shape[1]

    @property
    def next_place(self) -> int:
        """Position of the next token, in the row that is furthest."""
        return 0 if self._next is None else int(self._next.max())

    def start(self, inputs: TextInput) -> Tensor:
        """Feed whole prompts, pictures included, to an empty stream; return their states (B, L, D)."""
        assert self._mask is None
        states = self._mllm.run_text(inputs, self._cache)
        self._mask, self._next = inputs.attention_mask, inputs.next_positions
        return states

    def append(self, inputs_embeds: Tensor) -> Tensor:
        """Feed (B, L, D) embeddings of text that goes on in every row; return their states (B, L, D)."""
        new = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        first = new.new_zeros(len(new)) if self._next is None else self._next
        inputs = TextInput(
            embeds=inputs_embeds,
            attention_mask=new if self._mask is None else torch.cat([self._mask, new], dim=1),
            position_ids=first[:, None] + new.cumsum(1) - 1,
        )
        states = self._mllm.run_text(inputs, self._cache)
        self._mask, self._next = inputs.attention_mask, inputs.next_positions
        return states

    def probe(self, inputs_embeds: Tensor) -> Tensor:
        """Feed a side branch, return its states (B, L, D), and leave the stream as it was."""
        mark = self.mark()
        states = self.append(inputs_embeds)
        self.go_back(mark)
        return states

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Go on with some rows of the batch; the others are forgotten."""
        assert self._mask is not None and self._next is not None
        index = torch.tensor(rows, device=self._mask.device)
        self._mask, self._next = self._mask[index], self._next[index]
        self._cache.batch_select_indices(index)

    def mark(self) -> StreamMark:
        """Remember this place of the stream."""
        return self._mask, self._next

    def go_back(self, mark: StreamMark) -> None:
        """Drop all that was fed since a mark was made."""
        after = self.length
        self._mask, self._next = mark
        if after > self.length:
            self._cache.crop(self.length - after)  # negative: how many to drop


class Decoding:
    """Answers in the making: iterate to go on by a token; the states at [SEG] are kept on the way.

    A row that has ended is dropped from the stream while others go on.

    Attributes:
        token_ids: per row, the answer without prompt and end token.
        seg_states: per row, the (D,) state of each [SEG] so far.
        said_end: per row, whether the answer ended in words, which are then part of `token_ids` and of the stream.
    """

    def __init__(self, mllm: "Mllm", stream: TextStream, last_state: Tensor, rules: "DecodingRules") -> None:
        self._mllm, self._stream, self._state, self._rules = mllm, stream, last_state, rules
        self.token_ids: list[list[int]] = [[] for _ in range(len(last_state))]
        self.seg_states: list[list[Tensor]] = [[] for _ in range(len(last_state))]
        self.said_end = [False] * len(last_state)
        # One generator a row, so that a row draws the same alone as in a batch.
        self._generators = [torch.Generator(last_state.device).manual_seed(rules.seed) for _ in last_state]
        self._rows = list(range(len(last_state)))  # of the batch, those that go on, in the order of the stream

    def __iter__(self) -> Iterator[list[int]]:
        """Yield, step by step, the new token of each row that goes on."""
        rules = self._rules
        for _ in range(rules.max_new_tokens):
            tokens = self._pick()
            if not self._keep([token not in rules.end_ids for token in tokens]):
                return
            tokens = [token for token in tokens if token not in rules.end_ids]
            ids = torch.tensor(tokens, dtype=torch.long, device=self._state.device)[:, None]
            with plain_defaults(), torch.no_grad():
                self._state = self._stream.append(self._mllm.embed_tokens(ids))[:, 0]
            for row, token, state in zip(self._rows, tokens, self._state, strict=True):
                self.token_ids[row].append(token)
                if token == rules.seg_id:
                    self.seg_states[row].append(state)
                self.said_end[row] = rules.has_ended(self.token_ids[row])
            yield tokens
            if not self._keep([not self.said_end[row] for row in self._rows]):
                return

    @plain_defaults()
    def _keep(self, going: list[bool]) -> bool:
        """Drop the rows that have ended, or return False where all have and the stream stays as it is."""
        if any(going) and not all(going):
            places = [place for place, goes_on in enumerate(going) if goes_on]
            self._stream.keep_rows(places)
            self._state = self._state[places]
            self._rows = [self._rows[place] for place in places]
        return any(going)

    @plain_defaults()
    @torch.no_grad()
    def _pick(self) -> list[int]:
        """Choose the next token of each row that goes on."""
        generators = [self._generators[row] for row in self._rows]
        logits = self._mllm.logits(self._state).float()  # (B, V)
        if self._rules.temperature <= 0:
            return logits.argmax(-1).tolist()
        # In this order no temperature above 0, however small, makes infinite numbers meet.
        below = (logits - logits.amax(-1, keepdim=True)).double()
        chances = (below / self._rules.temperature).float().softmax(-1)
        return [int(torch.multinomial(p, 1, generator=g)) for p, g in zip(chances, generators, strict=True)]

    def finish(self) -> Self:
        """Run to the end."""
        for _ in self:
            pass
        return self


@dataclass(frozen=True, kw_only=True)
class DecodingRules:
    """How an answer is picked and when it ends."""

    end_ids: tuple[int, ...]  # any of them ends a row
    has_ended: Callable[[Sequence[int]], bool] = lambda token_ids: False  # whether an answer ends in closing words
    seg_id: int
    max_new_tokens: int
    temperature: float = 0.0  # 0 = greedy
    seed: int = 0


class Mllm(nn.Module):
    """A native Transformers MLLM behind the few calls that Sa2VA needs."""

    def __init__(self, family: str, config: dict[str, Any]) -> None:
        super().__init__()
        self._family = find_family(family)
        # A class of the family's own. The copy is for a native config, which writes into its parts.
        self.native: Any = self._family.build_mllm(deepcopy(config))

    @property
    def width(self) -> int:
        """D, width of the hidden states."""
        return self.native.get_input_embeddings().embedding_dim

    @property
    def max_places(self) -> int | None:
        """How many places the language model has learned; a picture may take fewer than it has tokens."""
        return getattr(self.native.config.get_text_config(), "max_position_embeddings", None)

    def check_length(self, number: int, room: int) -> None:
        """Refuse a prompt that leaves too little room for its answer.

        Args:
            number: places of the prompt, and of what was said before it.
            room: places that the answer needs.

        Raises:
            ValueError: together they are more than the language model has learned.
        """
        most = self.max_places
        if most is None or number + room <= most:
            return
        fewer = "" if number >= most else f", set max_new_tokens to at most {most - number}"
        raise ValueError(
            f"text and pictures take {number} places and the answer needs {room}, and this language model reads at "
            f"most {most}; ask in fewer words, show fewer pictures{fewer} or begin a new conversation"
        )

    @property
    def text_model(self) -> Any:
        """The native text model, without its head."""
        return self._family.language_model(self.native)

    @property
    def vision_tower(self) -> nn.Module:
        """The image encoder."""
        return self._family.vision_tower(self.native)

    @property
    def vision_projector(self) -> nn.Module:
        """What turns the image encoder's states into visual tokens."""
        return self._family.vision_projector(self.native)

    @property
    def word_embeddings(self) -> Tensor:
        """(V, D) input embeddings."""
        return self.native.get_input_embeddings().weight

    @property
    def image_token_id(self) -> int:
        """Token at each image place."""
        return self.native.config.image_token_id

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        # Parts of the native model may be spread over several devices; what comes out belongs where the input was.
        return self.native.get_input_embeddings()(input_ids).to(input_ids.device)  # (B, L) -> (B, L, D)

    def embed_inputs(self, prompts: Prompts) -> TextInput:
        """Embed the text and put a visual token at every image place, in order.

        Raises:
            ValueError: the number of image places differs from the number of visual tokens, which means that
                text and pictures belong to different prompts.
        """
        family, native, index = self._family, self.native, prompts.visual_index
        inputs = TextInput(
            embeds=self.embed_tokens(prompts.input_ids),
            attention_mask=prompts.attention_mask,
            position_ids=family.positions(native, prompts.input_ids, prompts.attention_mask, prompts.grids),
        )
        places = prompts.input_ids == self.image_token_id
        if int(places.sum()) != len(index):
            raise ValueError(f"{int(places.sum())} image places in the text, {len(index)} visual tokens")
        if prompts.branches is not None:
            inputs = replace(
                inputs,
                attention_mask=branch_mask(prompts.branches, inputs.embeds.dtype),
                position_ids=branch_positions(prompts.branches, inputs.position_ids),
            )
        if len(index) == 0:
            return inputs
        visual = self.encode_images(prompts.pixel_values.to(inputs.embeds.dtype), prompts.grids)
        seen = visual.tokens[index].to(inputs.embeds)  # (n, D)
        return replace(
            inputs,
            embeds=inputs.embeds.masked_scatter(places[..., None], seen),
            visual_places=places,
            deepstack=tuple(level[index] for level in visual.deepstack),
        )

    def encode_images(self, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Run the image encoder and the projector of its tokens; see `Prompts` for the shapes."""
        return self._family.encode_images(self.native, pixel_values, grids)

    def run_text(self, inputs: TextInput, cache: DynamicCache | None = None) -> Tensor:
        """Return the states (B, L, D) of the new tokens, as the family reads [SEG] from them."""
        return self._family.run_text(self.native, inputs, cache).states.to(inputs.embeds.device)

    def record_attention(self) -> None:
        """Let the text model compute its attention in the way that returns it, from now on."""
        self.text_model.set_attn_implementation("eager")

    def run_text_recorded(self, inputs: TextInput, layers: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the states (B, L, D) and the attention (B, H, L, L) of some layers; see `record_attention`."""
        if not layers:
            return self.run_text(inputs), {}
        output = self._family.run_text(self.native, replace(inputs, records_attention=True), None)
        assert output.attentions, "call record_attention first; other implementations return no attention"
        return output.states.to(inputs.embeds.device), {layer: output.attentions[layer] for layer in layers}

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Return the scores of the next token, from states as `run_text` gives them: (..., D) -> (..., V)."""
        return self._family.logits(self.native, hidden_states).to(hidden_states.device)

    def open_stream(self) -> TextStream:
        """Open an empty stream with its own KV cache."""
        return TextStream(self)
