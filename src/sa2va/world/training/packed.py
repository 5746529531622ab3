"""Teach what composes from many exchanges about one picture: its tokens once, then branches blind to each other.

Flow: exchanges.py -> PackedSource -> PackedBatch -> run_packed -> states and looks -> lessons of hearing.py.
Source: rows of several texts, each blind to the others: arXiv:2107.02027; branches that share a picture are our own.
    A picture and its question cost some 90 tokens, 70 of them the picture's; here those serve some twenty questions.
Shapes: B pictures, L = P + R tokens of a row: the picture's P and those of its branches, R = N blocks of C; H query
    heads, G key heads, g = H / G, d their width, D width of the states, V visual tokens of a picture.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sa2va.model.families.protocol import TextInput
from sa2va.model.losses import total_loss
from sa2va.model.processor import Batch, Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import IGNORE_INDEX
from sa2va.training.stage import StageConfig
from sa2va.types import Sample
from sa2va.world.scenes.scene import Scene
from sa2va.world.tasks.exchanges import Exchange, draw_exchanges
from sa2va.world.tasks.items import draw_item, render_item
from sa2va.world.training.cotrain import CotrainBatch, CotrainStage, TaskSource, Teachers
from sa2va.world.training.task_mixture import BESIDE_PACKED
from sa2va.world.training.word_grounding import Heard, Words, attention_loss, hear

ROOM = 640  # tokens of a picture's branches
TOKENS_OF_BRANCH = 20  # about; how many are drawn for the room
ORDINARY_EVERY = 4  # steps, of which one has conversations and masks as before, so that they are not forgotten
HARD_FROM = 0.3  # of the stage: before that no word is asked for together with its opposite
FIRST_SCENE = 20_000_000  # far from the scenes of other stages
SPARE = 2  # scenes drawn for each one that is taken, at most; few offer too little
LEAST_BRANCHES = 8
LM_WEIGHT, QUESTION_WEIGHT = 0.5, 1.5  # a request's answer has words enough but nothing to decide


@dataclass(frozen=True)
class PackedBatch:
    """A batch whose rows hold many branches."""

    batch: Batch
    prefix: int  # P
    position_ids: Tensor  # (B, L), those of each branch go on from the picture's
    branch: Tensor  # (B, L) number of the branch from 1, 0 in the prefix, -1 in the padding
    in_words: Tensor  # (B, L) bool, tokens of questions in words
    heard: Heard
    answers: Words  # tokens that an answer is said from, and what it is about
    spoken: Words  # each [SEG] and its objects; where the cover is nothing, there is none
    block: int  # C


# ---- data


_About = tuple[int, int, tuple[int, ...]]  # row and column of a token, and objects


@dataclass
class _Rows:
    """What is written of a batch so far, as lists."""

    image_id: int
    ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    branch: list[list[int]] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    in_words: list[list[bool]] = field(default_factory=list)
    spoken: list[_About] = field(default_factory=list)  # each [SEG] and its object
    about: list[_About] = field(default_factory=list)  # tokens that an answer in words is said from
    prefix: int = 0
    longest: int = 0

    def add(self, ids: list[int], labels: list[int], branch: int, first: int, in_words: bool) -> None:
        """Write tokens behind the last row, the first of them at position `first`."""
        self.ids[-1] += ids
        self.labels[-1] += labels
        self.branch[-1] += [branch] * len(ids)
        self.places[-1] += range(first, first + len(ids))
        self.in_words[-1] += [in_words] * len(ids)

    def padded(self, rows: list[list[Any]], value: Any) -> Tensor:
        """Fill rows up to a whole number of blocks."""
        longest = max(map(len, rows)) - self.prefix
        length = self.prefix + -(-longest // self.longest) * self.longest
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])


def pack(processor: Processor, samples: Sequence[Sample], exchanges: Sequence[Sequence[Exchange]]) -> PackedBatch:
    """Write the exchanges of each picture behind its tokens.

    Args:
        processor: of the model.
        samples: B, of one picture each, their turns those of `exchanges`.
        exchanges: at least one a picture.
    """
    rows = _Rows(processor.tokenizer.get_added_vocab()[processor.family.image_token])
    pictures = [processor.read_pictures(sample.frames) for sample in samples]
    for own, asked in zip(pictures, exchanges, strict=True):
        for part in (rows.ids, rows.labels, rows.branch, rows.places, rows.in_words):
            part.append([])
        for number, exchange in enumerate(asked, start=1):
            _write(rows, processor, number, exchange, [picture.num_tokens for picture in own])
    side = int(processor.config.tokens_per_tile**0.5)
    cells = [F.adaptive_avg_pool2d(torch.from_numpy(sample.masks[:, 0]).float(), side).flatten(1) for sample in samples]
    branch, ids = rows.padded(rows.branch, -1), rows.padded(rows.ids, processor.pad_id)
    batch = Batch(
        input_ids=ids,
        attention_mask=(branch >= 0).long(),
        pixel_values=torch.cat([picture.pixel_values for own in pictures for picture in own]),
        grids=torch.zeros((0, 3), dtype=torch.long),
        visual_index=torch.arange(sum(picture.num_tokens for own in pictures for picture in own)),
        labels=rows.padded(rows.labels, IGNORE_INDEX),
        sam_pixel_values=torch.zeros(0),
        seg_positions=torch.zeros((0, 2), dtype=torch.long),  # nothing is drawn
        seg_frames=torch.zeros((0, 1), dtype=torch.long),
        seg_targets=torch.zeros(0, dtype=torch.bool),
    )
    return PackedBatch(
        batch=batch,
        prefix=rows.prefix,
        position_ids=rows.padded(rows.places, 0),
        branch=branch,
        in_words=rows.padded(rows.in_words, False),
        heard=hear(samples, ids, [0], side, processor.tokenizer),
        answers=_cover(cells, rows.about, side),
        spoken=_cover(cells, rows.spoken, side),
        block=rows.longest,
    )


def _write(rows: _Rows, processor: Processor, number: int, exchange: Exchange, num_tokens: list[int]) -> None:
    """Write a branch behind the last row, and the picture before the first one."""
    question, _ = processor.encode_question(exchange.turn, num_tokens)
    answer, objects = processor.encode_answer(exchange.turn)
    size = len(question) - question[::-1].index(rows.image_id) + 1  # with the token that ends the picture
    assert rows.prefix in (0, size), "pictures of one batch take as many tokens"
    rows.prefix = size
    if number == 1:
        rows.add(question[:size], [IGNORE_INDEX] * size, 0, 0, False)
    row, begin = len(rows.ids) - 1, len(rows.ids[-1])
    said = begin + len(question) - size  # column of the answer's first token
    columns = [said + place for place, token in enumerate(answer) if token == processor.seg_id]
    rows.spoken += [(row, column, (shown,)) for column, shown in zip(columns, objects, strict=True)]
    if exchange.targets and not exchange.is_request:
        # An answer that names the object begins with an article, which tells nothing yet.
        columns = [said - 1] + [said] * exchange.turn.answer.startswith("the ")
        rows.about += [(row, column, exchange.targets) for column in columns]
    answer = answer + processor.encode_end()
    taught = answer if exchange.turn.supervised else [IGNORE_INDEX] * len(answer)
    labels = [IGNORE_INDEX] * (said - begin) + taught
    rows.add(question[size:] + answer, labels, number, size, not exchange.is_request)
    rows.longest = max(rows.longest, len(labels))


def _cover(cells: Sequence[Tensor], about: Sequence[_About], side: int) -> Words:
    """Tell which cells the objects cover that tokens are about."""
    cover = [cells[row][list(objects)].sum(0) for row, _, objects in about]
    places = torch.tensor([place[:2] for place in about], dtype=torch.long).reshape(-1, 2)
    return Words(places, torch.stack(cover) if cover else torch.zeros(0, side**2))


@dataclass(frozen=True)
class PackedSource:
    """Build the batch of a step: packed pictures, or now and then an ordinary batch."""

    processor: Processor
    config: StageConfig
    ordinary: TaskSource

    def __call__(self, step: int) -> PackedBatch | CotrainBatch:
        if step % ORDINARY_EVERY == ORDINARY_EVERY - 1:
            return self.ordinary(step)
        hard = step >= HARD_FROM * self.config.steps
        samples, exchanges = [], []
        most = SPARE * self.config.batch_size
        for index in range(FIRST_SCENE + step * most, FIRST_SCENE + (step + 1) * most):
            if len(samples) == self.config.batch_size:
                break
            scene, found = self._draw(index, hard)
            if len(found) >= LEAST_BRANCHES:
                samples.append(_paint(scene, found))
                exchanges.append(found)
        if not samples:
            raise ValueError(
                f"step {step}: no scene has {LEAST_BRANCHES} exchanges; raise batch_size, which draws more"
            )
        return pack(self.processor, samples, exchanges)

    def _draw(self, index: int, hard: bool) -> tuple[Scene, list[Exchange]]:
        scene, rng = draw_item("refseg", self.config.seed, "train", index)
        wanted = ROOM // TOKENS_OF_BRANCH
        return scene, self._fit(draw_exchanges(scene, rng, round(0.6 * wanted), round(0.5 * wanted), hard=hard))

    def _fit(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Keep what the room holds."""
        kept, left = [], ROOM
        for exchange in exchanges:
            question = self.processor.encode_follow_up(exchange.turn)  # about as long as the branch
            left -= len(question) + len(self.processor.encode_answer(exchange.turn)[0])
            if left < 0:
                break
            kept.append(exchange)
        return kept


def _paint(scene: Scene, exchanges: Sequence[Exchange]) -> Sample:
    picture = render_item(scene, "refseg")
    masks = np.concatenate([picture.masks, np.zeros_like(picture.masks[:1])])  # the last row is nothing
    turns = tuple(exchange.turn for exchange in exchanges)
    return Sample(frames=picture.frames, turns=turns, masks=masks, task="world/packed")


# ---- model


@dataclass(frozen=True)
class _Layout:
    """What the attention of a packed batch has to know."""

    prefix: int  # P
    block: int  # C
    bias: Tensor  # (B, R, 2 C) 0 where a branch's token may look, its own block or the one before, else very small
    watched: tuple[int, ...]  # layers
    looks: dict[int, Tensor]  # of each watched layer (B, g, L, P), filled on the way


def branch_bias(branch: Tensor, prefix: int, block: int) -> Tensor:
    """Say where branches may look: (B, L) numbers of branches -> (B, R, 2 C)."""
    own = branch[:, prefix:].unflatten(1, (-1, block))  # (B, N, C)
    before = F.pad(own, (0, 0, 1, 0), value=-2)[:, :-1]
    keys = torch.cat([before, own], dim=2)
    places = torch.arange(2 * block, device=branch.device)
    visible = (keys[:, :, None] == own[..., None]) & (places <= places[block:, None])
    bias = torch.zeros(visible.shape, device=branch.device)
    return bias.masked_fill(~visible, torch.finfo(bias.dtype).min).flatten(1, 2)


def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any) -> tuple[Tensor, None]:
    """Attend as a packed batch may: the prefix to itself, each branch to the prefix and to itself.

    No branch is longer than a block, so that its tokens lie in a block and the one before: a row of many branches
    costs what its branches cost alone, not the square of its length.

    Args:
        module: attention of a layer.
        query: (B, H, L, d).
        key: (B, G, L, d).
        value: (B, G, L, d).
        mask: not used; the layout tells.
        more: "scaling" and "layout", a _Layout.

    Returns:
        (B, L, H, d), and no weights.
    """
    layout, scaling = more["layout"], more["scaling"]
    size, block = layout.prefix, layout.block
    num_keys, group = key.shape[1], query.shape[1] // key.shape[1]
    seen = F.scaled_dot_product_attention(
        query[:, :, :size], key[:, :, :size], value[:, :, :size], is_causal=True, scale=scaling, enable_gqa=True
    )
    asking = query[:, :, size:].unflatten(1, (num_keys, group)) * scaling  # (B, G, g, R, d)
    outside = asking.flatten(2, 3) @ key[:, :, :size].transpose(-1, -2)  # (B, G, g R, P)
    inside = _to_blocks(asking, block) @ _to_windows(key[:, :, size:], block).transpose(-1, -2)
    inside = _from_blocks(inside, group) + layout.bias[:, None, None]  # (B, G, g, R, 2 C)
    chances = torch.cat([outside.unflatten(2, (group, -1)), inside], dim=-1).softmax(-1).to(value.dtype)
    outside, inside = chances.split([size, 2 * block], dim=-1)
    if module.layer_idx in layout.watched:
        layout.looks[module.layer_idx] = F.pad(outside[:, 0], (0, 0, size, 0))
    found = (outside.flatten(2, 3) @ value[:, :, :size]).unflatten(2, (group, -1))
    found = found + _from_blocks(_to_blocks(inside, block) @ _to_windows(value[:, :, size:], block), group)
    return torch.cat([seen, found.flatten(1, 2)], dim=2).transpose(1, 2), None


def _to_blocks(rows: Tensor, block: int) -> Tensor:
    """(B, G, g, R, x) -> (B, G, N, g C, x)."""
    return rows.unflatten(3, (-1, block)).transpose(2, 3).flatten(3, 4)


def _from_blocks(blocks: Tensor, group: int) -> Tensor:
    """(B, G, N, g C, x) -> (B, G, g, R, x)."""
    return blocks.unflatten(3, (group, -1)).transpose(2, 3).flatten(3, 4)


def _to_windows(rows: Tensor, block: int) -> Tensor:
    """Put before each block the one before it: (B, G, R, d) -> (B, G, N, 2 C, d)."""
    blocks = rows.unflatten(2, (-1, block))
    return torch.cat([F.pad(blocks, (0, 0, 0, 0, 1, 0))[:, :, :-1], blocks], dim=3)


ALL_ATTENTION_FUNCTIONS.register("packed", attend)


@contextmanager
def _packed_attention(config: Any) -> Generator[None]:
    before = config._attn_implementation
    config._attn_implementation = "packed"
    try:
        yield
    finally:
        config._attn_implementation = before


def run_packed(model: Sa2VA, item: PackedBatch, watched: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
    """Run the text model over a packed batch.

    Args:
        model: of a family whose text model takes Transformers' attention functions and plain positions.
        item: the batch.
        watched: layers.

    Returns:
        The states (B, L, D), and of each watched layer what the first key head's queries look at in the prefix,
        (B, g, L, P), zero in the rows of the prefix itself.
    """
    inputs: TextInput = replace(model.encode(item.batch), position_ids=item.position_ids)
    bias = branch_bias(item.branch, item.prefix, item.block)
    layout = _Layout(item.prefix, item.block, bias, tuple(watched), {})
    text = model.mllm.native.model.language_model
    with _packed_attention(text.config):
        states = text(
            inputs_embeds=inputs.embeds,
            attention_mask={"full_attention": None},  # ready-made, as far as Transformers is concerned
            position_ids=inputs.position_ids,
            use_cache=False,
            layout=layout,
        ).last_hidden_state
    return states, [layout.looks[layer] for layer in watched]


class PackedStage(CotrainStage):
    """Stage of the training loop; optimises all that draws and talks, but no image encoder.

    Batches take turns: three packed ones, which draw nothing, and one of the ordinary kind with masks.
    """

    def __init__(self, config: StageConfig, model: Sa2VA, processor: Processor, teachers: Teachers) -> None:
        super().__init__(config, model, processor, teachers, draws=True)
        model.sam2.native.vision_encoder.requires_grad_(False)
        ordinary = TaskSource(processor, config, draws=True, alignment=0.0, shares=BESIDE_PACKED)
        self.batch = PackedSource(processor, config, ordinary)

    def losses(self, batch: PackedBatch | CotrainBatch) -> dict[str, Tensor]:
        return self._packed_losses(batch) if isinstance(batch, PackedBatch) else super().losses(batch)

    def _packed_losses(self, item: PackedBatch) -> dict[str, Tensor]:
        model, batch, heard = self.model, item.batch, item.heard
        states, looks = run_packed(model, item, [layer.layer_idx for layer in self._looking])
        labels = batch.labels
        parts = [(LM_WEIGHT, labels.masked_fill(item.in_words, IGNORE_INDEX))]
        parts += [(QUESTION_WEIGHT, labels.masked_fill(~item.in_words, IGNORE_INDEX))]
        losses = [weight * model.text_loss(states, some) for weight, some in parts]
        terms = {"lm": torch.stack(losses).sum()}
        helps, is_visual = {}, batch.input_ids == model.mllm.native.config.image_token_id
        there = item.spoken.cover.any(1)
        spoken = Words(item.spoken.positions[there], item.spoken.cover[there])
        for name, layer, words in (
            ("looks", 0, heard.looked), ("meant_looks", 1, heard.meant),
            ("answer_looks", 1, item.answers), ("seg_looks", 2, spoken),
        ):  # fmt: skip
            if len(words.positions):
                helps[name] = attention_loss(looks[layer], is_visual, words)
        for name, words in (("words", heard.meant), ("pointer", spoken)):
            if len(words.positions):
                helps[name] = self.pointer(states[words.positions.unbind(1)], words.cover)
        for name, places, found in (
            ("found", heard.asked, heard.found), ("seg_found", item.spoken.positions, there),
        ):  # fmt: skip
            if len(places):
                helps[name] = self.pointer.found(states[places.unbind(1)], found)
        return terms | helps | {"total": total_loss(terms, self._loss) + sum(helps.values())}
