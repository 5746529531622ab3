"""Train SAM 2 on named objects before the language model joins: each question is one prompt, from its words alone.

Flow: own data -> one picture and the questions about it -> QuestionEncoder -> SAM 2's image encoder and mask decoder
    -> mask losses. A later stage trains the whole model with the same data (finetune.py).
Source: our own. A step costs a quarter of one with the language model, and a new kind of picture needs new features of
    the image encoder first of all.
Shapes: F pictures, M questions, L tokens, D MLLM width, C SAM 2 width, S SAM 2 input side, h w target grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from sa2va.data.base import Mixture
from sa2va.model.batch import move
from sa2va.model.losses import LossConfig, LossTerm, mask_losses
from sa2va.model.mask_rows import fit_targets
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import MaskOutput
from sa2va.training.own_data import OwnData, grid_figures
from sa2va.training.stage import OF_THE_RUN, Key, RunContext, StageConfig
from sa2va.types import Sample

QUESTION_DRAWS = 3  # draws of each record in which words are counted
QUESTIONS = "questions"  # key of the QuestionEncoder in RunContext.kept


@dataclass(frozen=True, kw_only=True)
class NamedMasksConfig(StageConfig):
    """Settings of training SAM 2 on named objects."""

    own_data: OwnData | None = field(default=None, metadata=OF_THE_RUN)
    losses: LossConfig = field(default_factory=LossConfig)
    mask_side: int = 96  # px, side of the square that targets are resized to
    validation_items: int = 60  # held-out records of a validation

    def build(self, context: RunContext) -> "NamedMasksStage":
        return NamedMasksStage(self, context)


@dataclass(frozen=True, kw_only=True)
class NamedBatch:
    """Pictures and the questions about them."""

    sam_pixel_values: Tensor  # (F, 3, S, S)
    question_ids: Tensor  # (M, L) long
    is_word: Tensor  # (M, L) bool, False at padding
    rows: Tensor  # (M, 3) question, picture, 0
    targets: Tensor  # (M, h, w) bool, all objects of a question united
    seeds: Tensor  # (M,) long, seeds of the random points of each mask


@dataclass(frozen=True)
class NamedPicture:
    """A picture with its questions and their masks."""

    pixel_values: Tensor  # (1, 3, S, S)
    questions: list[list[int]]
    targets: Tensor  # (M, h, w) bool
    seed: int


class QuestionEncoder(nn.Module):
    """Prompt of a question: a weighted sum of word vectors, and an MLP.

    A word that is rare among the questions counts most, so that the name matters and not the template around it. With
    learned weights over the MLLM's frozen embeddings, names were told apart ten times more slowly.

    Args:
        questions: questions of the training data, as token ids, from which the weights of the words are counted.
        vocab_size: V.
        out_dim: C.
        width: of the word vectors.
    """

    weights: Tensor

    def __init__(self, questions: Sequence[Sequence[int]], vocab_size: int, out_dim: int, width: int = 256) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        last = nn.Linear(width, out_dim)
        nn.init.normal_(last.weight, 0, width**-0.5)  # prompts as far apart as those of a table of names
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), last)
        counts = torch.ones(vocab_size)
        for question in questions:
            counts[list(set(question))] += 1
        rarity = ((len(questions) + 2) / counts).log().square()
        self.register_buffer("weights", rarity.clamp(min=1e-3), persistent=False)

    def forward(self, question_ids: Tensor, is_word: Tensor) -> Tensor:
        """Encode questions: (M, L) long, (M, L) bool -> (M, C)."""
        weights = self.weights[question_ids] * is_word
        shares = weights / weights.sum(-1, keepdim=True)
        return self.mlp((shares[..., None] * self.words(question_ids)).sum(1))


def pad_questions(processor: Processor, questions: Sequence[list[int]]) -> dict[str, Tensor]:
    """Return `question_ids` (M, L) and `is_word` (M, L) of M questions."""
    rows = questions or [[0]]
    lengths = torch.tensor([len(row) for row in rows])
    ids = processor.pad(rows, 0, left=False)
    is_word = torch.arange(ids.shape[1]) < lengths[:, None]
    return {"question_ids": ids[: len(questions)], "is_word": is_word[: len(questions)]}


class NamedMasksData:
    """Data of the stage: pictures of own data, or one frame of each clip, with their questions."""

    def __init__(self, config: NamedMasksConfig, processor: Processor) -> None:
        assert config.own_data is not None
        self.config, self.processor = config, processor
        self.dataset = config.own_data.open(absent=False)
        self.mixture = Mixture([self.dataset], [1.0], config.seed)

    def questions(self) -> list[list[int]]:
        """Return the questions of some draws of each record, as token ids; no picture is read."""
        plain = self.dataset.dataset
        turns = [t for epoch in range(QUESTION_DRAWS) for i in range(len(plain)) for t in plain.draw(i, epoch).turns]
        return [self.processor.tokenizer.encode(turn.question, add_special_tokens=False) for turn in turns]

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        return [(step * self.config.batch_size + place,) for place in range(self.config.batch_size)]

    def __getitem__(self, key: Key) -> NamedPicture:
        index = int(key[0])
        return self.prepare(self.mixture[index], index)

    def prepare(self, sample: Sample, seed: int) -> NamedPicture:
        """Choose a frame of a sample, and unite the masks of each question on it."""
        frame = int(np.random.default_rng([self.config.seed, seed]).integers(sample.num_frames))
        questions, masks = [], []
        for turn in sample.turns:
            if objects := [index for span in turn.spans for index in span.objects]:
                questions.append(self.processor.tokenizer.encode(turn.question, add_special_tokens=False))
                masks.append(np.asarray(sample.tracks.masks(objects, [frame])[:, 0].any(0)))
        size = sample.media[0].height, sample.media[0].width
        stack = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *size), bool))
        pixels = self.processor.sam_pixel_values(sample.media[0].frames([frame]))
        return NamedPicture(pixels, questions, fit_targets(stack, self.config.mask_side), seed)

    def collate(self, items: Sequence[NamedPicture]) -> NamedBatch:
        questions = [question for item in items for question in item.questions]
        pictures = [picture for picture, item in enumerate(items) for _ in item.questions]
        rows = torch.tensor([(number, picture, 0) for number, picture in enumerate(pictures)]).reshape(-1, 3)
        seeds = torch.tensor([item.seed for item in items for _ in item.questions], dtype=torch.long)
        return NamedBatch(
            sam_pixel_values=torch.cat([item.pixel_values for item in items]),
            **pad_questions(self.processor, questions),
            rows=rows.long(),
            targets=torch.cat([item.targets for item in items]),
            seeds=seeds * 1000 + torch.arange(len(seeds)),
        )


class NamedMasksModule(nn.Module):
    """SAM 2's image encoder and mask decoder with the encoder of questions."""

    def __init__(self, model: Sa2VA, losses: LossConfig, questions: QuestionEncoder) -> None:
        super().__init__()
        self.model, self.losses, self.questions = model, losses, questions

    def decode(self, batch: NamedBatch) -> MaskOutput:
        frames = self.model.sam2.encode_frames(batch.sam_pixel_values)
        return self.model.decode_prompts(self.questions(batch.question_ids, batch.is_word), frames, batch.rows)

    def forward(self, batch: NamedBatch) -> dict[str, LossTerm]:
        return mask_losses(self.decode(batch), batch.targets, self.losses, batch.seeds)


class NamedMasksStage:
    """Stage of training SAM 2 on named objects; the MLLM is frozen and hardly used."""

    def __init__(self, config: NamedMasksConfig, context: RunContext) -> None:
        self.config, self.device = config, context.device
        self.data = NamedMasksData(config, context.processor)
        context.model.requires_grad_(False)
        sam2 = context.model.sam2.native
        for part in (sam2.vision_encoder, sam2.mask_decoder):
            part.requires_grad_(True)
        if not config.losses.presence:
            sam2.mask_decoder.pred_obj_score_head.requires_grad_(False)
        if not config.losses.iou:
            sam2.mask_decoder.iou_prediction_head.requires_grad_(False)
        model = context.model
        questions = QuestionEncoder(self.data.questions(), len(model.mllm.word_embeddings), model.sam2.width)
        self.module = NamedMasksModule(model, config.losses, questions).to(context.device)
        context.kept[QUESTIONS] = self.module.questions

    def parameters(self) -> Iterator[Tensor]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def validate(self, step: int) -> dict[str, float]:
        """Measure held-out masks on the target grid."""
        assert self.config.own_data is not None
        samples = self.config.own_data.held_out_samples(self.config.validation_items)
        pairs = []
        for number, sample in enumerate(samples):
            batch = move(self.data.collate([self.data.prepare(sample, number)]), self.device)
            pairs.append((self.module.decode(batch).mask_logits, batch.targets))
        return grid_figures(pairs)
