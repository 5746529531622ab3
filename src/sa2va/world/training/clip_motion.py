"""Pretrain the temporal encoder: classify the visual tokens of a clip by the motion words of their objects.

Flow: clips -> frozen vision tower and projector -> temporal encoder -> dot products with word embeddings.
Source: our own, as patch_labels.py. From answers alone, the text model learned no motion from ten thousand clips.
Shapes: B clips, K key frames, n = g*g visual tokens of a frame, Z visual tokens on objects, D width, N objects.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sa2va.files.atomic import whole_file
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
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, attribute_ids

MOTION_WEIGHT = 2.0
NOBODY = -1
MAX_OBJECTS = 6  # of a clip, at most


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


def own_tokens(masks: Tensor, side: int) -> Tensor:
    """Return the object that covers most of each visual token's cell, if enough: (O, K, S, S) bool -> (K*n,) long."""
    cover, owners = nn.functional.adaptive_avg_pool2d(masks.float(), side).flatten(1).max(0)
    return torch.where(cover >= LEAST_COVER, owners, NOBODY)


def label_motions(samples: Sequence[Sample], side: int) -> MotionLabels:
    """List the visual tokens of clips that an object covers.

    Args:
        samples: B clips of key frames with `meta["scene"]` and masks of all its objects.
        side: g.
    """
    cells, kinds, attributes = [], [], []
    for row, sample in enumerate(samples):
        objects = sample.meta["scene"].objects
        owners = own_tokens(torch.from_numpy(sample.tracks.masks(range(len(objects)), range(sample.num_frames))), side)
        places = (owners != NOBODY).nonzero()[:, 0]
        cells.append(torch.stack([torch.full_like(places, row), places], dim=1))
        own = owners[places]
        kinds.append(torch.tensor([MOTIONS.index(one.motion.kind) for one in objects])[own])
        attributes.append(torch.tensor([attribute_ids(one) for one in objects])[own])
    return MotionLabels(torch.cat(cells), torch.cat(kinds), torch.cat(attributes))


@dataclass(frozen=True)
class EncodedClips:
    """Visual tokens of the key frames of N clips, which a frozen vision tower makes once, with their labels."""

    tokens: Tensor  # (N, K*n, D) float16
    owners: Tensor  # (N, K*n) int8, object on each token, NOBODY on the background
    kinds: Tensor  # (N, O) int8, index into MOTIONS of each object; O is the largest number of objects
    attributes: Tensor  # (N, O, 4) int8

    def label(self, index: Tensor) -> MotionLabels:
        """Label the tokens of some clips, in their order."""
        owners = self.owners[index].long()
        row, place = (owners != NOBODY).nonzero().unbind(1)
        own = owners[row, place]
        return MotionLabels(
            torch.stack([row, place], dim=1),
            self.kinds[index[row], own].long(),
            self.attributes[index[row], own].long(),
        )


def encode_clips(model: Sa2VA, processor: Processor, seed: int, indices: Sequence[int]) -> EncodedClips:
    """Draw clips and encode their key frames with the image encoder of a model."""
    config = processor.config
    keyframes, side = uniform_indices(CLIP_FRAMES, config.num_keyframes), int(config.tokens_per_tile**0.5)
    shape = len(indices), config.num_keyframes * config.tokens_per_tile
    tokens = torch.empty(*shape, model.mllm.width, dtype=torch.float16)
    owners = torch.full(shape, NOBODY, dtype=torch.int8)
    kinds = torch.zeros(len(indices), MAX_OBJECTS, dtype=torch.int8)
    attributes = torch.zeros(len(indices), MAX_OBJECTS, len(ATTRIBUTE_SIZES), dtype=torch.int8)
    for row, index in enumerate(indices):
        scene = make_scene(seed, "train", index, moving=True)
        drawn = scene.render(SIDE, CLIP_FRAMES)
        pixels = [picture.pixel_values for picture in processor.read_pictures(drawn.frames[keyframes])]
        with torch.no_grad():
            tokens[row] = model.mllm.encode_images(torch.cat(pixels), torch.zeros(0, 3)).tokens
        owners[row] = own_tokens(torch.from_numpy(drawn.masks[:, keyframes]), side)
        kinds[row, : len(scene.objects)] = torch.tensor([MOTIONS.index(one.motion.kind) for one in scene.objects])
        attributes[row, : len(scene.objects)] = torch.tensor([attribute_ids(one) for one in scene.objects])
    return EncodedClips(tokens, owners, kinds, attributes)


@dataclass(frozen=True)
class MotionBatch:
    """Visual tokens of B clips with their labels."""

    tokens: Tensor  # (B, K*n, D)
    labels: MotionLabels


@dataclass(frozen=True, kw_only=True)
class MotionConfig(StageConfig):
    """Settings of pretraining the temporal encoder."""

    num_clips: int  # clips, encoded once
    first_scene: int = 5_000_000  # index of the first clip; other stages use other clips

    def build(self, context: RunContext) -> "MotionStage":
        if context.model.mllm.temporal is None:
            raise ValueError(f"stage {self.name}: the model has no temporal encoder; set temporal_heads in its config")
        return MotionStage(self, context)


class MotionData:
    """Data of the stage: clips whose visual tokens are stored, in a new order in each pass."""

    def __init__(self, config: MotionConfig, clips: EncodedClips) -> None:
        self.config, self.clips = config, clips

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        number, size = self.config.num_clips, self.config.batch_size
        places = range(step * size, (step + 1) * size)
        orders = {one: np.random.default_rng([self.config.seed, one]).permutation(number) for one in
                  {place // number for place in places}}  # fmt: skip
        return [(step, int(orders[place // number][place % number])) for place in places]

    def __getitem__(self, key: Key) -> int:
        return int(key[1])

    def collate(self, items: Sequence[int]) -> MotionBatch:
        index = torch.tensor(items)
        return MotionBatch(self.clips.tokens[index].float(), self.clips.label(index))


class MotionModule(nn.Module):
    """Training module of the temporal encoder."""

    def __init__(self, model: Sa2VA, processor: Processor) -> None:
        super().__init__()
        assert model.mllm.temporal is not None
        self.temporal = model.mllm.temporal
        self.register_buffer("embeddings", model.mllm.word_embeddings.detach().clone(), persistent=False)
        self.motion_words = motion_words(processor.tokenizer)
        self.attribute_words = attribute_words(processor.tokenizer)

    def forward(self, batch: MotionBatch) -> dict[str, LossTerm]:
        clips = batch.tokens.unflatten(1, (-1, self.temporal.config.tokens_per_frame))
        tokens = (clips + self.temporal.encode(clips)).flatten(1, 2)[batch.labels.cells.unbind(1)]
        embeddings = self.get_buffer("embeddings")
        return motion_losses(tokens, batch.labels, self.motion_words, self.attribute_words, embeddings)


class MotionStage:
    """Stage that trains the temporal encoder; everything else is frozen."""

    def __init__(self, config: MotionConfig, context: RunContext) -> None:
        self.config = config
        self.module = MotionModule(context.model, context.processor)
        self.module.requires_grad_(True)
        self.data = MotionData(config, self._load_clips(context))

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.temporal.parameters()

    def _load_clips(self, context: RunContext) -> EncodedClips:
        """Read the encoded clips of the run, or encode and store them."""
        config, path = self.config, context.folder / self.config.name / "clips.safetensors"
        if not path.is_file():
            indices = range(config.first_scene, config.first_scene + config.num_clips)
            clips = encode_clips(context.model, context.processor, config.seed, indices)
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as draft:
                save_file({one.name: getattr(clips, one.name) for one in fields(clips)}, draft)
        clips = EncodedClips(**load_file(path))
        if len(clips.tokens) != config.num_clips:
            raise ValueError(f"{path} holds {len(clips.tokens)} clips; expected {config.num_clips}; delete the file")
        return clips
