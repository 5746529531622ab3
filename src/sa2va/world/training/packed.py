"""Pack many question-answer pairs per picture or clip into one row: shared visual prefix, mutually masked branches.

Flow: exchanges.py -> PackedData -> WorldBatch whose rows have branches -> GroundedSa2VA -> LossTerms.
Source: packing of texts that do not attend to each other, arXiv:2107.02027; branches with a shared picture are our own.
    A picture with one question takes about 90 tokens, 70 of them visual. Packed, 70 serve about twenty questions.
Shapes: B pictures or clips, L = P + R tokens of a row, P of the visual prefix and R of the branches, K key frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sa2va.model.batch import Batch
from sa2va.model.branches import PADDING
from sa2va.model.mask_rows import MaskRows
from sa2va.model.processor import Processor
from sa2va.tokens import IGNORE_INDEX
from sa2va.training.stage import Key, RunContext
from sa2va.types import Sample
from sa2va.world.scenes.scene import Scene
from sa2va.world.tasks.exchanges import Exchange, draw_exchanges
from sa2va.world.tasks.items import draw_item, is_clip, render_item
from sa2va.world.training.auxiliary_heads import Grounding, WorldBatch
from sa2va.world.training.clip_motion import label_motions
from sa2va.world.training.cotrain import CotrainConfig, CotrainData, CotrainStage, DrawnItem
from sa2va.world.training.task_mixture import BESIDE_PACKED_SHARES, TaskShares
from sa2va.world.training.word_grounding import (
    Placed,
    Words,
    cell_cover,
    ground_mask_tokens,
    ground_questions,
)

PACKED = "packed"  # marks the key of a packed picture or clip: (step, PACKED, scene index)


@dataclass(frozen=True, kw_only=True)
class PackedConfig(CotrainConfig):
    """Settings of training on packed pictures, interleaved with ordinary batches."""

    shares: TaskShares = BESIDE_PACKED_SHARES
    trains_sam_encoder: bool = False
    alignment: float = 0.0
    cycle: tuple[str, ...] = ("refseg",)  # packed steps take turns: pictures of "refseg", clips of "video_refseg"
    branch_tokens: int = 640  # token limit of a picture's branches
    tokens_per_branch: int = 20  # estimate, for the number of branches that fit
    least_branches: int = 8  # least number of branches of a picture
    requests_per_branch: float = 0.6  # sampled requests per branch that fits; the sum with the questions exceeds 1
    questions_per_branch: float = 0.5  # sampled questions per branch that fits
    ordinary_every: int = 4  # steps per ordinary batch (conversations and masks), against forgetting
    hard_from: float = 0.3  # share of the stage up to which one word of each opposite pair is left out
    first_scene: int = 20_000_000  # index of the first scene; other stages use other scenes
    scenes_per_picture: int = 2  # scenes to try until one has enough exchanges

    def build(self, context: RunContext) -> CotrainStage:
        return CotrainStage(self, context, PackedData(self, context.processor))


@dataclass(frozen=True)
class PackedItem:
    """One picture or clip with its exchanges; empty if none of the tried scenes has enough."""

    step: int
    sample: Sample | None
    exchanges: tuple[Exchange, ...] = ()


class PackedData:
    """Data of the stage: packed pictures or clips, and an ordinary batch every `ordinary_every` steps."""

    def __init__(self, config: PackedConfig, processor: Processor) -> None:
        self.config, self.processor = config, processor
        self.ordinary = CotrainData(config, processor)

    def __len__(self) -> int:
        return self.config.steps

    def keys(self, step: int) -> list[Key]:
        config = self.config
        if step % config.ordinary_every == config.ordinary_every - 1:
            return self.ordinary.keys(step)
        first = config.first_scene + step * config.batch_size * config.scenes_per_picture
        return [(step, PACKED, first + i * config.scenes_per_picture) for i in range(config.batch_size)]

    def __getitem__(self, key: Key) -> PackedItem | DrawnItem:
        step, kind, first = int(key[0]), key[1], int(key[2])
        if kind != PACKED:
            return self.ordinary[key]
        packed_steps = step - step // self.config.ordinary_every  # packed steps before this one
        task = self.config.cycle[packed_steps % len(self.config.cycle)]
        keyframes = self.ordinary.keyframes if is_clip(task) else [0]
        for index in range(first, first + self.config.scenes_per_picture):
            scene, exchanges = self._draw(task, index, hard=step >= self.config.hard_from * self.config.steps)
            if len(exchanges) >= self.config.least_branches:
                return PackedItem(step, _render(scene, task, keyframes, exchanges), tuple(exchanges))
        return PackedItem(step, None)

    def collate(self, items: Sequence[PackedItem | DrawnItem]) -> WorldBatch:
        drawn = [item for item in items if isinstance(item, DrawnItem)]
        if drawn:
            return self.ordinary.collate(drawn)
        pictures = [item for item in items if isinstance(item, PackedItem)]
        samples = [item.sample for item in pictures if item.sample is not None]
        if not samples:
            raise ValueError(
                f"step {items[0].step}: no scene has {self.config.least_branches} exchanges; raise batch_size or "
                "scenes_per_picture"
            )
        exchanges = [item.exchanges for item in pictures if item.sample is not None]
        return pack(self.processor, samples, exchanges)

    def _draw(self, task: str, index: int, hard: bool) -> tuple[Scene, list[Exchange]]:
        config = self.config
        scene, rng = draw_item(task, config.seed, "train", index)
        wanted = config.branch_tokens // config.tokens_per_branch
        requests, questions = round(config.requests_per_branch * wanted), round(config.questions_per_branch * wanted)
        return scene, self._fit(draw_exchanges(scene, rng, requests, questions, hard=hard, moving=is_clip(task)))

    def _fit(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Keep the first exchanges that fit into `branch_tokens`."""
        kept, left = [], self.config.branch_tokens
        for exchange in exchanges:
            question = self.processor.encode_follow_up(exchange.turn)  # about as long as the branch
            left -= len(question) + len(self.processor.encode_answer(exchange.turn)[0])
            if left < 0:
                break
            kept.append(exchange)
        return kept


def _render(scene: Scene, task: str, keyframes: Sequence[int], exchanges: Sequence[Exchange]) -> Sample:
    """Render the key frames of a scene, with a last object that is absent."""
    picture = render_item(scene, task)
    masks = np.concatenate([picture.masks, np.zeros_like(picture.masks[:1])])[:, keyframes]
    turns = [exchange.turn for exchange in exchanges]
    meta = {"scene": scene}
    return Sample.of_arrays(frames=picture.frames[keyframes], turns=turns, masks=masks, task="world/packed", meta=meta)


@dataclass
class _Row:
    """Row under construction: token ids, branches and labels of one picture or clip."""

    ids: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    request_labels: list[int] = field(default_factory=list)
    answer_labels: list[int] = field(default_factory=list)
    seg_columns: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)  # objects of the answers, in the order of their mask tokens
    about: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # (column that predicts an answer, objects)

    def add(self, ids: list[int], labels: list[int], branch: int, *, is_request: bool) -> None:
        self.ids += ids
        self.branches += [branch] * len(ids)
        ignored = [IGNORE_INDEX] * len(ids)
        self.request_labels += labels if is_request else ignored
        self.answer_labels += ignored if is_request else labels


def pack(processor: Processor, samples: Sequence[Sample], exchanges: Sequence[Sequence[Exchange]]) -> WorldBatch:
    """Build a batch with one row per picture or clip and one branch per exchange.

    Args:
        processor: processor of the model.
        samples: B samples of one picture each, or of K key frames each; their turns are those of `exchanges`.
        exchanges: at least one per sample.
    """
    frames = range(samples[0].num_frames)
    pictures = [processor.read_pictures(sample.frames) for sample in samples]
    side = int(processor.config.tokens_per_tile**0.5)
    rows = []
    for own, asked in zip(pictures, exchanges, strict=True):
        row = _Row()
        for number, exchange in enumerate(asked, start=1):
            _write(row, processor, number, exchange, [picture.num_tokens for picture in own])
        rows.append(row)
    visual = [list(range(sum(picture.num_tokens for picture in own))) for own in pictures]
    prompts = processor.collate(list(zip([row.ids for row in rows], visual, strict=True)), pictures, left=False)
    positions = [(index, column) for index, row in enumerate(rows) for column in row.seg_columns]
    batch = Batch(
        **prompts,
        **MaskRows(processor.design, None).tensors(),  # no masks are decoded
        labels=processor.pad([row.request_labels for row in rows], IGNORE_INDEX, left=False),
        sam_pixel_values=torch.zeros(0),
        seg_positions=torch.tensor(positions, dtype=torch.long).reshape(-1, 2),
        branches=processor.pad([row.branches for row in rows], PADDING, left=False),
    )
    per_object = len(processor.design.object_tokens(len(frames)))
    grounded = [
        ground_mask_tokens(sample, row.objects, frames, side, per_object)
        for sample, row in zip(samples, rows, strict=True)
    ]
    covers, boxes = zip(*grounded, strict=True)
    return WorldBatch(
        batch,
        Grounding(
            questions=ground_questions(samples, batch.input_ids, frames, side, processor.tokenizer),
            objects=Words(batch.seg_positions, torch.cat(covers)),
            boxes=torch.cat(boxes),
            answers=Words.of(_answer_words(samples, rows, frames, side), len(frames) * side**2),
            motions=label_motions(samples, side) if len(frames) > 1 else None,
            answer_labels=processor.pad([row.answer_labels for row in rows], IGNORE_INDEX, left=False),
        ),
    )


def _write(row: _Row, processor: Processor, number: int, exchange: Exchange, num_tokens: list[int]) -> None:
    """Append a branch to a row; the first one is preceded by the picture or clip."""
    question, _ = processor.encode_question(exchange.turn, num_tokens)
    answer, objects = processor.encode_answer(exchange.turn, len(num_tokens))
    # The prefix ends with the token after the last image token, which closes the picture or the last frame.
    prefix = len(question) - question[::-1].index(processor.image_id) + 1
    if number == 1:
        row.add(question[:prefix], [IGNORE_INDEX] * prefix, 0, is_request=True)
    asked, begin = question[prefix:], len(row.ids)
    first = begin + len(asked)  # column of the answer's first token
    row.seg_columns += [first + n for n, token in enumerate(answer) if token in processor.seg_tokens]
    row.objects += objects
    if exchange.targets and not exchange.is_request and not exchange.about:
        # If the answer begins with an article, the column of the article predicts the object as well.
        columns = [first - 1] + [first] * exchange.turn.answer.startswith("the ")
        row.about += [(column, exchange.targets) for column in columns]
    if exchange.about:
        encoded = processor.tokenizer(exchange.turn.answer, add_special_tokens=False, return_offsets_mapping=True)
        for column, (_, end) in enumerate(encoded["offset_mapping"], start=first - 1):
            row.about += [(column, span.objects) for span in exchange.about if span.start < end <= span.end]
    answer = answer + processor.encode_end()
    labels = answer if exchange.turn.supervised else [IGNORE_INDEX] * len(answer)
    row.add(asked + answer, [IGNORE_INDEX] * len(asked) + labels, number, is_request=exchange.is_request)


def _answer_words(samples: Sequence[Sample], rows: Sequence[_Row], frames: Sequence[int], side: int) -> list[Placed]:
    """List the columns that predict answers in words, with the cells that the objects of each answer cover."""
    return [
        (index, column, cell_cover(sample, objects, frames, side).sum(0))
        for index, (sample, row) in enumerate(zip(samples, rows, strict=True))
        for column, objects in row.about
    ]
