"""Tie words to places: those a question is heard by to where its object may be.

Flow: Turn.heard and Turn.named (a dataset) + input_ids (processor.py) -> hear -> cotrain.py, packed.py;
    attention of the text model -> watched (cotrain.py alone), attention_loss -> both.
Source: our own. The answer's [SEG] tells once a question which object was meant; its words tell it one after the
    other, and the first of them need no composition at all.
Shapes: B samples, L tokens, M masks of a sample, K key frames, g side of the grid of visual tokens, W words.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from sa2va.model.losses import average
from sa2va.types import Sample, Turn

_Word = tuple[int, int, Tensor]  # row, column, cover


class Words(NamedTuple):
    """Words of a batch and the share of each visual token's cell that is covered by what they mean."""

    positions: Tensor  # (W, 2) row and column of each word's last token
    cover: Tensor  # (W, K * g * g), some in every row


class Heard(NamedTuple):
    """What the words of a batch teach."""

    meant: Words  # where the objects lie that the expression may mean so far
    looked: Words  # where to look: at what the name fits that the word belongs to, or else at what is meant
    asked: Tensor  # (A, 2) row and column of words of both kinds, those that fit nothing too
    found: Tensor  # (A,) bool, whether something in sight fits so far


def hear(
    samples: Sequence[Sample],
    input_ids: Tensor,
    keyframes: Sequence[int],
    side: int,
    tokenizer: PreTrainedTokenizerBase,
) -> Heard:
    """Place the words of all questions.

    Args:
        samples: B conversations.
        input_ids: (B, L) their tokens.
        keyframes: K, the frames that are seen.
        side: g.
        tokenizer: that `input_ids` come from.

    Returns:
        The words; where things are to be seen, those whose objects cannot be seen are left out.
    """
    meant: list[_Word] = []
    looked: list[_Word] = []
    asked: list[_Word] = []
    for row, sample in enumerate(samples):
        if not any(turn.heard or turn.named for turn in sample.turns):
            continue  # may have no masks either
        seen = torch.from_numpy(sample.masks[:, list(keyframes)]).float()  # (M, K, H, W)
        cells = F.adaptive_avg_pool2d(seen, side).flatten(1)  # (M, K * g * g)
        for turn, ends in _place_questions(sample, input_ids[row].tolist(), tokenizer):
            heard = {span.end: span.objects for span in turn.heard}
            named = {span.end: span.objects for span in turn.named}
            for found, spans in ((meant, heard), (looked, heard | named), (asked, named | heard)):
                found += [(row, ends[end], cells[list(objects)].sum(0)) for end, objects in spans.items()]
    size = len(keyframes) * side**2
    places = torch.tensor([(row, column) for row, column, _ in asked], dtype=torch.long).reshape(-1, 2)
    there = torch.tensor([bool(cover.any()) for _, _, cover in asked], dtype=torch.bool)
    return Heard(_stack(meant, size), _stack(looked, size), places, there)


def _stack(found: Sequence[_Word], size: int) -> Words:
    kept = [(row, column, cover) for row, column, cover in found if cover.any()]
    positions = torch.tensor([(row, column) for row, column, _ in kept], dtype=torch.long).reshape(-1, 2)
    return Words(positions, torch.stack([cover for _, _, cover in kept]) if kept else torch.zeros(0, size))


@contextmanager
def watched(layers: Sequence[nn.Module], num_heads: int, is_there: Tensor) -> Generator[list[Tensor]]:
    """Collect what the first heads of attention layers look at for the length of a `with` block.

    Fast kernels do not tell, so scores are computed once more from what enters the layer, for these heads alone.

    Args:
        layers: attention of a text model of the Qwen2 kind, in the order in which they run.
        num_heads: H, which share the layer's first key head.
        is_there: (B, L) tokens that are no padding.

    Yields:
        A list that gets (B, H, L, L) a layer and call; the hooks go with the block: no graph outlives its step.
    """
    seen: list[Tensor] = []
    past = torch.ones(is_there.shape[1], is_there.shape[1], dtype=torch.bool, device=is_there.device).tril()
    visible = (past & is_there.bool()[:, None])[:, None]  # (B, 1, L, L)

    def look(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = named["hidden_states"] if "hidden_states" in named else inputs[0]
        width = num_heads * module.head_dim
        query = F.linear(hidden, module.q_proj.weight[:width], module.q_proj.bias[:width])
        key = F.linear(hidden, module.k_proj.weight[: module.head_dim], module.k_proj.bias[: module.head_dim])
        query, key = query.unflatten(-1, (num_heads, -1)).transpose(1, 2), key[:, None]
        query, key = apply_rotary_pos_emb(query, key, *named["position_embeddings"])
        scores = (query @ key.transpose(-1, -2)).float() * module.scaling
        seen.append(scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1))

    handles = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def attention_loss(attention: Tensor, is_visual: Tensor, words: Words) -> Tensor:
    """Hold where words look against where their objects are: -log of the share of attention that falls on them.

    Args:
        attention: (B, H, L, K) of the heads that are to look, at K tokens of which all visual ones are.
        is_visual: (B, L) bool, the visual tokens.
        words: that look, on V visual tokens, see `hear`.
    """
    (rows, columns), cover = words.positions.unbind(1), words.cover
    looks = attention[rows, :, columns].mean(1).float()  # (W, L)
    number = cover.shape[1]
    places = is_visual[rows].nonzero()[:, 1].reshape(len(rows), -1)[:, :number]
    there = cover >= 0.5 * cover.amax(1, keepdim=True).clamp(max=0.4)
    return average(-((looks.gather(1, places) * there).sum(1) + 1e-6).log())


def _place_questions(
    sample: Sample, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[Turn, dict[int, int]]]:
    """Yield the turns with words to hear: with each, the column of the token that ends at a character."""
    begin = 0
    for turn in sample.turns:
        if not (turn.heard or turn.named):
            continue
        encoded = tokenizer(turn.question, add_special_tokens=False, return_offsets_mapping=True)
        # The first token may differ in the prompt, where a newline comes before it; the rest is the question's own.
        tokens, offsets = encoded["input_ids"][1:], encoded["offset_mapping"][1:]
        start = _find(ids, tokens, begin)
        yield turn, {end: start + place for place, (_, end) in enumerate(offsets)}
        begin = start + len(tokens)  # another question may contain the words of this one


def _find(ids: list[int], part: list[int], begin: int) -> int:
    """Return where `part` begins in `ids`, not before `begin`."""
    for start in range(begin, len(ids) - len(part) + 1):
        if ids[start] == part[0] and ids[start : start + len(part)] == part:
            return start
    raise AssertionError("a question of the sample is not in its own tokens")
