"""Ground words in visual tokens: targets for auxiliary losses on where their objects are and where attention goes.

Flow: GroundedTurn (tasks) + input_ids (processor.py) -> ground_questions, ground_answers -> auxiliary_heads.py.
Source: our own. The answer's [SEG] tells once per question which object was meant; its words tell it one after the
    other, and the first of them need no composition at all.
Shapes: B samples, L tokens, M masks of a sample, K key frames, g side of the grid of visual tokens, V = K g g visual
    tokens, W words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sa2va.model.losses import LossTerm
from sa2va.types import Sample
from sa2va.world.tasks.grounded_turn import GroundedTurn

Placed = tuple[int, int, Tensor]  # row and column of a token, and the cover (V,) of what it means


@dataclass(frozen=True)
class Words:
    """Tokens of a batch, and the share of each visual token's cell that is covered by what they mean."""

    positions: Tensor  # (W, 2) row and column
    cover: Tensor  # (W, V)

    @classmethod
    def of(cls, placed: Sequence[Placed], size: int) -> "Words":
        """Stack words; `size` is V, for when there are none."""
        positions = torch.tensor([(row, column) for row, column, _ in placed], dtype=torch.long).reshape(-1, 2)
        return cls(positions, torch.stack([cover for _, _, cover in placed]) if placed else torch.zeros(0, size))

    def visible(self) -> "Words":
        """Leave out words whose objects cannot be seen."""
        there = self.cover.any(1)
        return Words(self.positions[there], self.cover[there])


@dataclass(frozen=True)
class QuestionWords:
    """Targets of the words of questions."""

    possible: Words  # where the objects lie that are still possible after a word
    attended: Words  # attention targets: what a word's noun phrase fits, or else the objects still possible
    asked: Tensor  # (A, 2) row and column of words of both kinds, those that fit nothing too
    exists: Tensor  # (A,) bool, whether something in sight fits so far


def cell_cover(sample: Sample, objects: Sequence[int], keyframes: Sequence[int], side: int) -> Tensor:
    """Return the share of each visual token's cell that each object covers: (n, V)."""
    masks = torch.from_numpy(sample.tracks.masks(objects, keyframes)).float()  # (n, K, H, W)
    if not len(masks):
        return torch.zeros(0, len(keyframes) * side**2)
    return F.adaptive_avg_pool2d(masks, side).flatten(1)


def ground_questions(
    samples: Sequence[Sample],
    input_ids: Tensor,
    keyframes: Sequence[int],
    side: int,
    tokenizer: PreTrainedTokenizerBase,
) -> QuestionWords:
    """Find the words of all questions and what they mean.

    Args:
        samples: B conversations.
        input_ids: (B, L) their tokens.
        keyframes: K, the frames that are seen.
        side: g.
        tokenizer: that `input_ids` come from.
    """
    possible: list[Placed] = []
    attended: list[Placed] = []
    asked: list[Placed] = []
    for row, sample in enumerate(samples):
        if not any(isinstance(turn, GroundedTurn) and (turn.possible or turn.nouns) for turn in sample.turns):
            continue  # may have no masks either
        cells = cell_cover(sample, range(len(sample.tracks)), keyframes, side)
        for turn, ends in _place_questions(sample, input_ids[row].tolist(), tokenizer):
            meant = {span.end: span.objects for span in turn.possible}
            nouns = {span.end: span.objects for span in turn.nouns}
            for placed, spans in ((possible, meant), (attended, meant | nouns), (asked, nouns | meant)):
                placed += [(row, ends[end], cells[list(objects)].sum(0)) for end, objects in spans.items()]
    size = len(keyframes) * side**2
    words = Words.of(asked, size)
    return QuestionWords(
        Words.of(possible, size).visible(), Words.of(attended, size).visible(), words.positions, words.cover.any(1)
    )


def attention_loss(attention: Tensor, is_visual: Tensor, words: Words) -> LossTerm:
    """Attract the attention of words to their objects: -log of the share of attention that falls on them.

    Args:
        attention: (B, H, L, L) of the heads that are trained, query before key.
        is_visual: (B, L) bool, the visual tokens.
        words: on V visual tokens.
    """
    (rows, columns), cover = words.positions.unbind(1), words.cover
    attended = attention[rows, :, columns].mean(1).float()  # (W, L)
    places = is_visual.int().argsort(dim=1, descending=True, stable=True)[:, : cover.shape[1]]  # (B, V)
    there = cover >= 0.5 * cover.amax(1, keepdim=True).clamp(max=0.4)
    return LossTerm.of(-((attended.gather(1, places[rows]) * there).sum(1) + 1e-6).log())


def _place_questions(
    sample: Sample, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[GroundedTurn, dict[int, int]]]:
    """Yield the turns with grounded words: with each, the column of the token that ends at a character."""
    begin = 0
    for turn in sample.turns:
        if not (isinstance(turn, GroundedTurn) and (turn.possible or turn.nouns)):
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
