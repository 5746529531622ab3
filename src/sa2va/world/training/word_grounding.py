"""Ground words in visual tokens: targets of auxiliary losses on referent location and attention.

Flow: GroundedTurn (tasks) + input_ids (processor.py) -> ground_questions -> auxiliary_heads.py.
Source: our own. The [SEG] of an answer supervises the referent once per question. Supervising every word gives more
    signal, and the first words need no composition.
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
from sa2va.world.training.scene_batch import mask_boxes

Placed = tuple[int, int, Tensor]  # row and column of a token, and the cover (V,) of its referents


@dataclass(frozen=True)
class Words:
    """Tokens of a batch, with the share of each visual token's cell that their referents cover."""

    positions: Tensor  # (W, 2) row and column
    cover: Tensor  # (W, V)

    @classmethod
    def of(cls, placed: Sequence[Placed], size: int) -> "Words":
        """Stack words; `size` is V, needed for an empty sequence."""
        positions = torch.tensor([(row, column) for row, column, _ in placed], dtype=torch.long).reshape(-1, 2)
        return cls(positions, torch.stack([cover for _, _, cover in placed]) if placed else torch.zeros(0, size))

    def visible(self) -> "Words":
        """Drop words without visible referents."""
        there = self.cover.any(1)
        return Words(self.positions[there], self.cover[there])


@dataclass(frozen=True)
class QuestionWords:
    """Targets of the words of questions."""

    possible: Words  # words with the objects still possible after them
    attended: Words  # attention targets: objects that match the word's own noun phrase, else those still possible
    asked: Tensor  # (A, 2) row and column of all these words, including those without referents
    exists: Tensor  # (A,) bool, whether a visible object matches


def cell_cover(sample: Sample, objects: Sequence[int], keyframes: Sequence[int], side: int) -> Tensor:
    """Return the share of each visual token's cell that each object covers: (n, V)."""
    masks = torch.from_numpy(sample.tracks.masks(objects, keyframes)).float()  # (n, K, H, W)
    return F.adaptive_avg_pool2d(masks, side).flatten(1)


def ground_mask_tokens(
    sample: Sample, objects: Sequence[int], keyframes: Sequence[int], side: int, per_object: int
) -> tuple[Tensor, Tensor]:
    """Return what each mask token of an answer stands for: cover (M, V) of its object, and its box (M, 4).

    A token of all key frames has the cover on all of them and the box on the first. One of several tokens of an object
    stands for it on one key frame.

    Args:
        sample: gives the masks.
        objects: n, of the answer, in the order of their tokens.
        keyframes: K, indices of the key frames.
        side: g.
        per_object: mask tokens of an object, 1 or K; M = n * per_object.
    """
    cover = cell_cover(sample, objects, keyframes, side)
    masks = torch.from_numpy(sample.tracks.masks(objects, keyframes[:per_object]))
    if per_object > 1:
        frames = torch.eye(per_object)[:, :, None]  # token, frame, any cell
        cover = (cover.unflatten(1, (1, per_object, -1)) * frames).flatten(2).flatten(0, 1)
    return cover, mask_boxes(masks.flatten(0, 1))


def ground_questions(
    samples: Sequence[Sample],
    input_ids: Tensor,
    keyframes: Sequence[int],
    side: int,
    tokenizer: PreTrainedTokenizerBase,
) -> QuestionWords:
    """Locate the words of all questions and compute the cover of their referents.

    Args:
        samples: B conversations.
        input_ids: (B, L) token ids of the conversations.
        keyframes: K, indices of the frames that the MLLM reads.
        side: g.
        tokenizer: tokenizer of `input_ids`.
    """
    possible: list[Placed] = []
    attended: list[Placed] = []
    asked: list[Placed] = []
    for row, sample in enumerate(samples):
        if not any(isinstance(turn, GroundedTurn) and (turn.possible or turn.nouns) for turn in sample.turns):
            continue  # such a sample may have no masks
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
    """Compute the attention loss: -log of the share of a word's attention on its referents.

    Args:
        attention: (B, H, L, L) probabilities of the supervised heads, query before key.
        is_visual: (B, L) bool, True at visual tokens.
        words: words with the cover of their referents on V visual tokens.
    """
    (rows, columns), cover = words.positions.unbind(1), words.cover
    attended = attention[rows, :, columns].mean(1).float()  # (W, L)
    columns_of_visual = visual_columns(is_visual)[:, : cover.shape[1]]  # (B, V)
    there = cover >= 0.5 * cover.amax(1, keepdim=True).clamp(max=0.4)
    return LossTerm.of(-((attended.gather(1, columns_of_visual[rows]) * there).sum(1) + 1e-6).log())


def visual_columns(is_visual: Tensor) -> Tensor:
    """List the columns of each row, those of visual tokens first, in order: (B, L) bool -> (B, L) long."""
    return is_visual.int().argsort(dim=1, descending=True, stable=True)


def _place_questions(
    sample: Sample, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[GroundedTurn, dict[int, int]]]:
    """Yield each turn with grounded words, and a map from character ends to token columns."""
    begin = 0
    for turn in sample.turns:
        if not (isinstance(turn, GroundedTurn) and (turn.possible or turn.nouns)):
            continue
        encoded = tokenizer(turn.question, add_special_tokens=False, return_offsets_mapping=True)
        # Skip the first token: it may differ in the prompt, where a newline precedes it.
        tokens, offsets = encoded["input_ids"][1:], encoded["offset_mapping"][1:]
        start = _find(ids, tokens, begin)
        yield turn, {end: start + place for place, (_, end) in enumerate(offsets)}
        begin = start + len(tokens)  # a later question may contain the same words


def _find(ids: list[int], part: list[int], begin: int) -> int:
    """Return the first index >= `begin` at which `part` occurs in `ids`."""
    for start in range(begin, len(ids) - len(part) + 1):
        if ids[start] == part[0] and ids[start : start + len(part)] == part:
            return start
    raise AssertionError("a question of the sample is not in its own tokens")
