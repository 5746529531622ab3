"""Add auxiliary losses of the drawn world to Sa2VA: word grounding, attention targets, patch labels, object codes.

Flow: WorldBatch -> GroundedSa2VA -> Sa2VA.forward, which calls GroundingLosses with what it computes on the way.
Source: our own; none of it is kept in the model.
Shapes: B samples, L tokens, N objects of answers, Z visual tokens on objects, V visual tokens of a sample.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sa2va.model.auxiliary import ForwardView
from sa2va.model.batch import Batch, move
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.sa2va import Sa2VA
from sa2va.world.training.mask_decoder import UNKNOWN, ObjectCode
from sa2va.world.training.patch_labels import UNMARKED, attribute_words, center_loss, center_word, word_losses
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES
from sa2va.world.training.word_grounding import QuestionWords, Words, attention_loss


@dataclass(frozen=True)
class PatchLabels:
    """What lies on the visual tokens of first frames."""

    cells: Tensor  # (Z, 2) row and cell
    attributes: Tensor  # (Z, 4)
    marks: Tensor  # (B, cells) 1 or 0 where centers of objects are, UNMARKED where that is not known


@dataclass(frozen=True)
class Grounding:
    """What the drawn world knows of a batch beside its labels and masks."""

    questions: QuestionWords
    objects: Words  # the first mask token of each object of an answer; no cover where there is no such object
    seg_index: Tensor  # (N,) which of the batch's mask tokens these are
    boxes: Tensor  # (N, 4) of the objects on the first key frame: center x, y, width, height, 0..1
    alignment: float = 0.0  # weight of the pull of prompt embeddings towards object codes
    patches: PatchLabels | None = None
    answers: Words | None = None  # tokens that answers in words are predicted from, and what these are about
    answer_labels: Tensor | None = None  # (B, L) labels of answers in words, where they have a weight of their own


@dataclass(frozen=True)
class WorldBatch:
    """A batch of drawn samples."""

    batch: Batch
    grounding: Grounding

    def to(self, device: torch.device | str) -> Self:
        return move(self, device)

    @property
    def parts(self) -> frozenset[str]:
        return self.batch.parts

    def with_parts(self, parts: Collection[str]) -> Self:
        return replace(self, batch=self.batch.with_parts(parts))


class LocationHead(nn.Module):
    """Read from a state where its object is, and whether there is one.

    A choice among the cells of the visual grid is a far sharper lesson than a mask, and comes long before the first
    good mask. It sees nothing but the state: compared with the visual tokens, a state that only repeats the words
    would do, and nothing that SAM 2 could draw from.
    """

    def __init__(self, width: int, num_cells: int) -> None:
        super().__init__()
        self.place = nn.Linear(width, num_cells)
        self.find = nn.Linear(width, 1)

    def location_loss(self, states: Tensor, cover: Tensor) -> LossTerm:
        """Cross-entropy between where each state (N, D) points and the cells (N, V) that its objects cover."""
        logits = self.place(states)[:, : cover.shape[1]].float()
        return LossTerm.of(F.cross_entropy(logits, cover / cover.sum(1, keepdim=True), reduction="none"))

    def existence_loss(self, states: Tensor, exists: Tensor) -> LossTerm:
        """Cross-entropy of whether there is anything that states (N, D) stand for: (N,) bool."""
        logits = self.find(states)[:, 0].float()
        return LossTerm.of(F.binary_cross_entropy_with_logits(logits, exists.float(), reduction="none"))


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """Depths in the text model, 0..1, of the layers whose first heads learn to attend, and weights."""

    noun_depth: float = 1 / 3  # from a word to what its noun phrase fits
    referent_depth: float = 2 / 3  # from a word to the objects still possible, which takes all words before it
    seg_depth: float = 5 / 6  # from [SEG] to its object
    # Of the language loss where answers to requests and answers in words are weighed apart: a request's answer has
    # words enough but nothing to decide.
    request_weight: float = 0.5
    answer_weight: float = 1.5


class GroundedSa2VA(nn.Module):
    """Sa2VA with auxiliary heads, as a stage trains it."""

    def __init__(
        self,
        model: Sa2VA,
        location: LocationHead,
        code: ObjectCode | None,
        tokenizer: PreTrainedTokenizerBase,
        losses: LossConfig,
        auxiliary: AuxiliaryConfig,
    ) -> None:
        super().__init__()
        self.model, self.location, self.code = model, location, code
        self.losses, self.auxiliary = losses, auxiliary
        self.attribute_words, self.center_word = attribute_words(tokenizer), center_word(tokenizer)
        model.mllm.record_attention()

    def forward(self, batch: WorldBatch) -> dict[str, LossTerm]:
        """Return the terms of Sa2VA and of its heads."""
        is_split = batch.grounding.answer_labels is not None
        losses = replace(self.losses, lm=self.auxiliary.request_weight) if is_split else self.losses
        return self.model(batch.batch, losses, auxiliary=GroundingLosses(self, batch.grounding))


class GroundingLosses:
    """The auxiliary losses of one batch; see `model.auxiliary.Auxiliary`."""

    def __init__(self, trained: GroundedSa2VA, targets: Grounding) -> None:
        self.trained, self.targets = trained, targets
        text: Any = trained.model.mllm.text_model.config
        depths = trained.auxiliary.noun_depth, trained.auxiliary.referent_depth, trained.auxiliary.seg_depth
        self.attention_layers = [int(depth * text.num_hidden_layers) for depth in depths]
        # Heads that share the first key head learn to attend; the others stay free.
        self.num_heads = text.num_attention_heads // text.num_key_value_heads

    def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
        """Return all terms; those without rows count for nothing."""
        targets, words, head = self.targets, self.targets.questions, self.trained.location
        states, there = view.hidden_states, targets.objects.cover.any(1)
        nouns, referents, segs = (view.attentions[layer][:, : self.num_heads] for layer in self.attention_layers)
        seg_states = view.seg_states[targets.seg_index]
        seen = targets.objects.visible()
        terms = {
            "word_location": head.location_loss(states[words.possible.positions.unbind(1)], words.possible.cover),
            "word_exists": head.existence_loss(states[words.asked.unbind(1)], words.exists),
            "noun_attention": attention_loss(nouns, view.is_visual, words.attended),
            "referent_attention": attention_loss(referents, view.is_visual, words.possible),
            "seg_location": head.location_loss(seg_states[there], seen.cover),
            "seg_exists": head.existence_loss(seg_states, there),
            "seg_attention": attention_loss(segs, view.is_visual, seen),
        }
        if targets.answers is not None:
            terms["answer_attention"] = attention_loss(referents, view.is_visual, targets.answers)
        if targets.answer_labels is not None:
            weight = self.trained.auxiliary.answer_weight
            terms["lm_answers"] = self.trained.model.text_loss(states, targets.answer_labels, weight)
        if targets.patches is not None:
            terms |= self._patch_losses(targets.patches, view)
        if targets.alignment and self.trained.code is not None:
            prompt_embeds = view.prompt_embeds[targets.seg_index][there]
            terms["alignment"] = self._alignment(self.trained.code, prompt_embeds, targets.boxes[there])
        return terms

    def _patch_losses(self, patches: PatchLabels, view: ForwardView) -> dict[str, LossTerm]:
        """Compare visual tokens of first frames with the words that are true of them; see patch_labels.py."""
        trained, tokens = self.trained, view.input_embeds
        first = view.is_visual.int().argmax(dim=1)  # the picture's tokens stand in one run
        rows, cells = patches.cells.unbind(1)
        embeddings = trained.model.mllm.word_embeddings
        terms = word_losses(tokens[rows, first[rows] + cells], patches.attributes, trained.attribute_words, embeddings)
        marked = torch.nonzero(patches.marks[:, 0] != UNMARKED)  # (R, 1)
        cells = first[marked] + torch.arange(patches.marks.shape[1], device=first.device)
        marks = patches.marks[marked[:, 0]]
        return terms | {"center": center_loss(tokens[marked, cells], marks, embeddings[trained.center_word])}

    def _alignment(self, code: ObjectCode, prompt_embeds: Tensor, boxes: Tensor) -> LossTerm:
        """Squared distance between prompt embeddings (N, C) and the codes of where their objects are."""
        unknown = torch.full((len(boxes), len(ATTRIBUTE_SIZES)), UNKNOWN, device=boxes.device)
        with torch.no_grad():
            placed = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
            wanted = code(self.trained.model.sam2, unknown, boxes, placed)
        distance = (prompt_embeds.float() - wanted.float()).square().mean(-1)
        return LossTerm.of(distance, self.targets.alignment)
