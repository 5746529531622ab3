"""Add auxiliary losses on synthetic scenes to Sa2VA: word grounding, attention targets, patch labels, object codes.

Flow: WorldBatch -> GroundedSa2VA -> Sa2VA.forward, which calls GroundingLosses with its intermediate results.
Source: our own; the heads are not saved with the model.
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
from sa2va.world.training.clip_motion import MotionLabels, motion_losses, motion_words
from sa2va.world.training.mask_decoder import UNKNOWN, ObjectCode
from sa2va.world.training.patch_labels import UNMARKED, attribute_words, center_loss, center_word, word_losses
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES
from sa2va.world.training.teacher import KeptAnswers, Teacher, kept_losses
from sa2va.world.training.word_grounding import QuestionWords, Words, attention_loss, visual_columns


@dataclass(frozen=True)
class PatchLabels:
    """Labels of the visual tokens of first frames."""

    cells: Tensor  # (Z, 2) row of the batch and cell of each labeled token
    attributes: Tensor  # (Z, 4)
    marks: Tensor  # (B, cells) 1 at centers of objects, else 0; UNMARKED in samples without object masks


@dataclass(frozen=True)
class Grounding:
    """Ground truth of a batch of synthetic scenes beyond labels and masks."""

    questions: QuestionWords
    objects: Words  # the M mask tokens of the batch; cover is 0 for an absent object
    boxes: Tensor  # (M, 4) boxes of their objects, see `ground_mask_tokens`: center x, y, width, height, 0..1
    alignment: float = 0.0  # weight of the loss that aligns prompt embeddings with object codes
    patches: PatchLabels | None = None
    answers: Words | None = None  # tokens that predict answers in words, with the objects of each answer
    motions: MotionLabels | None = None  # of clips
    answer_labels: Tensor | None = None  # (B, L) labels of answers in words, if these are weighted separately


@dataclass(frozen=True)
class WorldBatch:
    """Batch of samples on synthetic scenes, with their ground truth."""

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
    """Heads on a hidden state that predict where its object is and whether the object exists.

    Classification over the cells of the visual grid is a much stronger signal than a mask loss, and converges long
    before the first good mask. The input is only the state. If the head compared it with visual tokens, a state
    that repeats the words would suffice, and SAM 2 could not decode a mask from it.
    """

    def __init__(self, width: int, num_cells: int) -> None:
        super().__init__()
        self.place = nn.Linear(width, num_cells)
        self.find = nn.Linear(width, 1)

    def location_loss(self, states: Tensor, cover: Tensor, weight: float) -> LossTerm:
        """Compute the cross-entropy between the location predicted from states (N, D) and the covered cells (N, V)."""
        logits = self.place(states)[:, : cover.shape[1]].float()
        return LossTerm.of(F.cross_entropy(logits, cover / cover.sum(1, keepdim=True), reduction="none"), weight)

    def existence_loss(self, states: Tensor, exists: Tensor, weight: float) -> LossTerm:
        """Compute the cross-entropy of whether the object of each state (N, D) exists: (N,) bool."""
        logits = self.find(states)[:, 0].float()
        return LossTerm.of(F.binary_cross_entropy_with_logits(logits, exists.float(), reduction="none"), weight)


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """Relative depths, 0..1, of the text layers with supervised attention, and weights of the language loss."""

    noun_depth: float = 1 / 3  # attention from a word to the objects that its noun phrase fits
    referent_depth: float = 2 / 3  # attention from a word to the objects still possible, given all words before it
    seg_depth: float = 5 / 6  # attention from [SEG] to its object
    # Weights of the language loss, if answers to segmentation requests and answers in words are weighted separately.
    # Answers to requests have many tokens but carry no information.
    request_weight: float = 0.5
    answer_weight: float = 1.5
    location_weight: float = 1.0  # of the heads that predict location and existence from states
    # Of the distance to the answers that the model gave to the same pictures before the stage; see teacher.py.
    kept_words_weight: float = 0.0
    kept_prompts_weight: float = 0.0

    @property
    def keeps_answers(self) -> bool:
        return bool(self.kept_words_weight or self.kept_prompts_weight)


class GroundedSa2VA(nn.Module):
    """Training module: Sa2VA with auxiliary heads."""

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
        self.motion_words = motion_words(tokenizer)
        self.teacher = Teacher(model) if auxiliary.keeps_answers else None
        model.mllm.record_attention()

    def forward(self, batch: WorldBatch) -> dict[str, LossTerm]:
        """Return the loss terms of Sa2VA and of the heads."""
        is_split = batch.grounding.answer_labels is not None
        losses = replace(self.losses, lm=self.auxiliary.request_weight) if is_split else self.losses
        kept = None
        if self.teacher is not None and not len(batch.batch.clips):
            kept = self.teacher.answer(batch.batch, batch.grounding.answer_labels)
        return self.model(batch.batch, losses, auxiliary=GroundingLosses(self, batch.grounding, kept))


class GroundingLosses:
    """Auxiliary losses of one batch; see `model.auxiliary.Auxiliary`."""

    def __init__(self, trained: GroundedSa2VA, targets: Grounding, kept: KeptAnswers | None = None) -> None:
        self.trained, self.targets, self.kept = trained, targets, kept
        text: Any = trained.model.mllm.text_model.config
        depths = trained.auxiliary.noun_depth, trained.auxiliary.referent_depth, trained.auxiliary.seg_depth
        self.attention_layers = [int(depth * text.num_hidden_layers) for depth in depths]
        # Only the query heads that share the first key-value head are supervised.
        self.num_heads = text.num_attention_heads // text.num_key_value_heads

    def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
        """Return all terms; a term without rows is 0."""
        targets, words, head = self.targets, self.targets.questions, self.trained.location
        states, there = view.hidden_states, targets.objects.cover.any(1)
        nouns, referents, segs = (view.attentions[layer][:, : self.num_heads] for layer in self.attention_layers)
        seg_states = view.seg_states
        seen, weight = targets.objects.visible(), self.trained.auxiliary.location_weight
        terms = {
            "word_location": head.location_loss(
                states[words.possible.positions.unbind(1)], words.possible.cover, weight
            ),
            "word_exists": head.existence_loss(states[words.asked.unbind(1)], words.exists, weight),
            "noun_attention": attention_loss(nouns, view.is_visual, words.attended),
            "referent_attention": attention_loss(referents, view.is_visual, words.possible),
            "seg_location": head.location_loss(seg_states[there], seen.cover, weight),
            "seg_exists": head.existence_loss(seg_states, there, weight),
            "seg_attention": attention_loss(segs, view.is_visual, seen),
        }
        if targets.answers is not None:
            terms["answer_attention"] = attention_loss(referents, view.is_visual, targets.answers)
        if targets.answer_labels is not None:
            answer_weight = self.trained.auxiliary.answer_weight
            terms["lm_answers"] = self.trained.model.text_loss(states, targets.answer_labels, answer_weight)
        if self.kept is not None:
            terms |= self._kept_losses(self.kept, view)
        if targets.patches is not None:
            terms |= self._patch_losses(targets.patches, view)
        if targets.motions is not None:
            terms |= self._motion_losses(targets.motions, view)
        if targets.alignment and self.trained.code is not None:
            prompt_embeds = view.prompt_embeds[there]
            terms["alignment"] = self._alignment(self.trained.code, prompt_embeds, targets.boxes[there])
        return terms

    def _kept_losses(self, kept: KeptAnswers, view: ForwardView) -> dict[str, LossTerm]:
        """Compare the answers with those of the teacher; see teacher.py."""
        weights = self.trained.auxiliary
        return kept_losses(
            kept,
            self.trained.model.mllm.logits(view.hidden_states[:, :-1][kept.answered]),
            view.prompt_embeds,
            words=weights.kept_words_weight,
            prompts=weights.kept_prompts_weight,
        )

    def _patch_losses(self, patches: PatchLabels, view: ForwardView) -> dict[str, LossTerm]:
        """Classify visual tokens of first frames by the attribute words of their objects; see patch_labels.py."""
        trained, tokens = self.trained, view.input_embeds
        first = view.is_visual.int().argmax(dim=1)  # the picture's tokens are contiguous
        rows, cells = patches.cells.unbind(1)
        embeddings = trained.model.mllm.word_embeddings
        terms = word_losses(tokens[rows, first[rows] + cells], patches.attributes, trained.attribute_words, embeddings)
        marked = torch.nonzero(patches.marks[:, 0] != UNMARKED)  # (R, 1)
        cells = first[marked] + torch.arange(patches.marks.shape[1], device=first.device)
        marks = patches.marks[marked[:, 0]]
        return terms | {"center": center_loss(tokens[marked, cells], marks, embeddings[trained.center_word])}

    def _motion_losses(self, labels: MotionLabels, view: ForwardView) -> dict[str, LossTerm]:
        """Classify visual tokens of clips by the words of their objects; see clip_motion.py."""
        trained, (rows, places) = self.trained, labels.cells.unbind(1)
        columns = visual_columns(view.is_visual)[rows, places]
        embeddings = trained.model.mllm.word_embeddings
        tokens = view.input_embeds[rows, columns]
        return motion_losses(tokens, labels, trained.motion_words, trained.attribute_words, embeddings)

    def _alignment(self, code: ObjectCode, prompt_embeds: Tensor, boxes: Tensor) -> LossTerm:
        """Compute the squared distance between prompt embeddings (N, C) and the codes of their objects' boxes."""
        unknown = torch.full((len(boxes), len(ATTRIBUTE_SIZES)), UNKNOWN, device=boxes.device)
        with torch.no_grad():
            placed = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
            wanted = code(self.trained.model.sam2, unknown, boxes, placed)
        distance = (prompt_embeds.float() - wanted.float()).square().mean(-1)
        return LossTerm.of(distance, self.targets.alignment)
