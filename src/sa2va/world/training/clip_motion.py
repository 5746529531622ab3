"""Pretrain the temporal encoder: classify the visual tokens of a clip by the motion words of their objects.

Flow: clips -> frozen vision tower and projector -> temporal encoder -> dot products with word embeddings.
Source: our own, as patch_labels.py. From answers alone, the text model learned no motion from ten thousand clips.
Shapes: B clips, K key frames, n = g*g visual tokens of a frame, Z visual tokens on objects, D width, N objects.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sa2va.media.source import uniform_indices
from sa2va.model.losses import LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.stage import Key, RunContext, StageConfig
from sa2va.types import Sample
from sa2va.world.language.grammar import to_motion_words
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.tasks.items import CLIP_FRAMES, SIDE
from sa2va.world.training.patch_labels import LEAST_COVER, attribute_words, label_loss, word_losses
from sa2va.world.training.scene_batch import attribute_ids

MOTION_WEIGHT = 2.0


def motion_words(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Return the token id of one word for each of MOTIONS: "left" for "moves left", "blinks" for "blinks"."""
    words = []
    for kind in MOTIONS:
        _, *rest = to_motion_words(kind)
        word = rest[-1] if kind.startswith(("moves", "stays")) else rest[0]
        words.append(tokenizer.encode(f" {word}", add_special_tokens=False)[0])
    return torch.tensor(words)


@dataclass(frozen=True)
class MotionLabels:
    """Labels of visual tokens of clips."""

    cells: Tensor  # (Z, 2) row of the batch, and index among the visual tokens of the row
    kinds: Tensor  # (Z,) long, index into MOTIONS
    attributes: Tensor  # (Z, 4) long


def motion_losses(
    tokens: Tensor, labels: MotionLabels, motions: Tensor, attributes: Sequence[Tensor], embeddings: Tensor
) -> dict[str, LossTerm]:
    """Compute the cross-entropy over the words of motions and attributes for each visual token on an object.

    Args:
        tokens: (Z, D) visual tokens, as input of the text model.
        labels: their labels.
        motions: token ids of `motion_words`.
        attributes: token ids of `attribute_words`.
        embeddings: (V, D) word embeddings.
    """
    logits = tokens @ embeddings[motions].T / tokens.shape[-1] ** 0.5
    terms = word_losses(tokens, labels.attributes, attributes, embeddings)
    return terms | {"word_motion": label_loss(logits, labels.kinds, MOTION_WEIGHT)}


def label_motions(samples: Sequence[Sample], side: int) -> MotionLabels:
    """List the visual tokens of clips that an object covers.

    Args:
        samples: B clips of key frames with `meta["scene"]` and masks of all its objects.
        side: g.
    """
    cells, kinds, attributes = [], [], []
    for row, sample in enumerate(samples):
        objects = sample.meta["scene"].objects
        masks = torch.from_numpy(sample.tracks.masks(range(len(objects)), range(sample.num_frames))).float()
        cover, owners = nn.functional.adaptive_avg_pool2d(masks, side).flatten(1).max(0)  # (K*n,)
        found = (cover >= LEAST_COVER).nonzero()[:, 0]
        cells.append(torch.stack([torch.full_like(found, row), found], dim=1))
        own = owners[found]
        kinds.append(torch.tensor([MOTIONS.index(one.motion.kind) for one in objects])[own])
        attributes.append(torch.tensor([attribute_ids(one) for one in objects])[own])
    return MotionLabels(torch.cat(cells), torch.cat(kinds), torch.cat(attributes))


@dataclass(frozen=True)
class MotionBatch:
    """Key frames of B clips with the labels of their visual tokens."""

    pixel_values: Tensor  # (B*K, 3, s, s)
    labels: MotionLabels


@dataclass(frozen=True, kw_only=True)
class MotionConfig(StageConfig):
    """Settings of pretraining the temporal encoder."""

    first_scene: int = 30_000_000  # index of the first clip; other stages use other clips

    def build(self, context: RunContext) -> "MotionStage":
        if context.model.mllm.temporal is None:
            raise ValueError(f"stage {self.name}: the model has no temporal encoder; set temporal_heads in its config")
        return MotionStage(self, context)


class MotionData:
    """Data of the stage: key frames of drawn clips with labels."""

    def __init__(self, config: MotionConfig, processor: Processor) -> None:
        self.config, self.processor = config, processor
        self.keyframes = uniform_indices(CLIP_FRAMES, processor.config.num_keyframes)
        self.side = int(processor.config.tokens_per_tile**0.5)

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        first = self.config.first_scene + step * self.config.batch_size
        return [(step, first + i) for i in range(self.config.batch_size)]

    def __getitem__(self, key: Key) -> MotionBatch:
        scene = make_scene(self.config.seed, "train", int(key[1]), moving=True)
        drawn = scene.render(SIDE, CLIP_FRAMES)
        frames, masks = drawn.frames[self.keyframes], drawn.masks[:, self.keyframes]
        sample = Sample.of_arrays(frames=frames, turns=(), masks=masks, task="world/motion", meta={"scene": scene})
        pixels = torch.cat([picture.pixel_values for picture in self.processor.read_pictures(frames)])
        return MotionBatch(pixels, label_motions([sample], self.side))

    def collate(self, items: Sequence[MotionBatch]) -> MotionBatch:
        rows = [item.labels.cells + torch.tensor([row, 0]) for row, item in enumerate(items)]
        joined = {one.name: torch.cat([getattr(item.labels, one.name) for item in items]) for one in fields(MotionLabels)}
        labels = MotionLabels(**joined | {"cells": torch.cat(rows)})
        return MotionBatch(torch.cat([item.pixel_values for item in items]), labels)


class MotionModule(nn.Module):
    """Training module of the temporal encoder."""

    def __init__(self, model: Sa2VA, processor: Processor) -> None:
        super().__init__()
        self.mllm = model.mllm
        self.num_frames, self.size = model.config.num_keyframes, model.config.tokens_per_tile
        self.motion_words, self.attribute_words = (
            motion_words(processor.tokenizer),
            attribute_words(processor.tokenizer),
        )

    def forward(self, batch: MotionBatch) -> dict[str, LossTerm]:
        mllm, temporal = self.mllm, self.mllm.temporal
        assert temporal is not None
        with torch.no_grad():
            seen = mllm.encode_images(batch.pixel_values, torch.zeros(0, 3)).tokens
        first = torch.arange(0, len(seen), self.num_frames * self.size)
        clips = torch.stack([first, torch.full_like(first, self.num_frames)], dim=1)
        tokens = temporal(seen, clips).view(len(first), self.num_frames * self.size, -1)
        tokens = tokens[batch.labels.cells.unbind(1)]
        return motion_losses(
            tokens, batch.labels, self.motion_words, self.attribute_words, mllm.word_embeddings.detach()
        )


class MotionStage:
    """Stage that trains the temporal encoder; everything else is frozen."""

    def __init__(self, config: MotionConfig, context: RunContext) -> None:
        self.config, self.data = config, MotionData(config, context.processor)
        self.module = MotionModule(context.model, context.processor)
        self.module.requires_grad_(False)
        assert context.model.mllm.temporal is not None
        context.model.mllm.temporal.requires_grad_(True)

    def parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)
