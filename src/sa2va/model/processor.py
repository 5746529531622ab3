"""Turn Samples into a Batch: prompt text, pixels for both encoders, labels, places of [SEG].

Flow: Sample (data/ or predictor.py) -> Processor -> Batch -> sa2va.py.
Source: Sa2VA, arXiv:2501.04001, section 3.2; its released code for the exact template, which has no system turn.
Shapes: B samples, L tokens, P tiles, F frames for SAM 2 (all samples), K of them per sample, N [SEG] tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sa2va.model.backbones.catalog import FAMILIES
from sa2va.model.config import Sa2VAConfig
from sa2va.tokens import ADDED_TOKENS, IGNORE_INDEX, PHRASE_TOKENS, REGION_TOKENS, SEG_TOKEN
from sa2va.types import Frames, Masks, Sample, Turn


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors of B samples. Everything about [SEG] is listed sample by sample, in reading order."""

    input_ids: Tensor  # (B, L) long
    attention_mask: Tensor  # (B, L) long
    labels: Tensor  # (B, L) long, IGNORE_INDEX where the language loss does not look
    pixel_values: Tensor  # (P, 3, s, s)
    visual_index: Tensor  # (places,) which visual token stands at each image place
    sam_pixel_values: Tensor  # (F, 3, S, S)
    seg_positions: Tensor  # (N, 2) row and column of each [SEG] in input_ids
    seg_frames: Tensor  # (N, K) which of the F frames each [SEG] is decoded on
    seg_targets: Tensor  # (N, K, H, W) bool, visible pixels; N = 0 rows where there is nothing to learn

    def to(self, device: torch.device | str) -> Self:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class _Encoded:
    """One sample as lists; a place is a visual token of this sample's own tiles."""

    ids: list[int]
    labels: list[int]
    seg_columns: list[int]
    seg_objects: list[int]
    visual_index: list[int]


def normalise(pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (F, S, S, 3) -> float32 (F, 3, S, S)."""
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


class Processor:
    """Prepare input for one model. Stateless besides the config and the tokenizer."""

    def __init__(self, config: Sa2VAConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.seg_id = self._token_id(SEG_TOKEN)
        self.end_ids = tuple({self._token_id(self.family.TURN_END), tokenizer.eos_token_id})
        self.sam_size: int = config.sam2["image_size"]
        # The released model normalises SAM 2 pixels with constants rounded to bfloat16, whatever its dtype.
        rounded = [torch.tensor(v).bfloat16().float().tolist() for v in (self.family.PIXEL_MEAN, self.family.PIXEL_STD)]
        self._sam_mean, self._sam_std = (tuple(v) for v in rounded)

    @property
    def family(self) -> ModuleType:
        """The backbone family; looked up each time because a module cannot travel to a worker process."""
        return FAMILIES[self.config.family]

    def _token_id(self, token: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(token)
        if not isinstance(index, int) or index == self.tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer has no {token} token; a Sa2VA tokenizer has {', '.join(ADDED_TOKENS)}")
        return index

    # ---- pixels

    def tiles_per_frame(self, frames: Frames) -> list[NDArray[np.uint8]]:
        """Cut what the MLLM sees: a picture into up to `max_tiles` tiles, each frame of a clip into one."""
        limit = self.config.max_tiles if len(frames) == 1 else 1
        return [self.family.split_tiles(frame, self.config.tile_size, limit) for frame in frames]

    def pixel_values(self, tiles: NDArray[np.uint8]) -> Tensor:
        return normalise(tiles, self.family.PIXEL_MEAN, self.family.PIXEL_STD)

    def sam_pixel_values(self, frames: Frames) -> Tensor:
        """Squeeze each frame to the square that SAM 2 reads: (F, H, W, 3) -> (F, 3, S, S)."""
        size = (self.sam_size, self.sam_size)
        if frames.shape[1:3] == size:
            return normalise(frames, self._sam_mean, self._sam_std)
        squeezed = [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames]
        return normalise(np.stack(squeezed), self._sam_mean, self._sam_std)

    # ---- text

    def _encode_text(self, text: str) -> list[int]:
        """Tokenise text in which a literal special token is plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True) if text else []

    def _encode_template(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def region_cells(self, region: NDArray[np.bool_]) -> list[int]:
        """Return the indices of the visual tokens, within one tile, that lie under a region.

        A region too small for the grid gets the one cell under its centre, where the released model would see
        no region at all.
        """
        side = int(self.config.tokens_per_tile**0.5)
        grid = cv2.resize(region.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        cells = np.flatnonzero(grid).tolist()
        if not cells:
            rows, columns = np.nonzero(region)
            row = int(rows.mean() * side / region.shape[0])
            cells = [row * side + int(columns.mean() * side / region.shape[1])]
        return cells

    def _region_prompt(self, turn: Turn) -> tuple[str, list[int]]:
        """Write the sentence that shows the marked regions; return it with the cells it needs."""
        if not turn.regions:
            return "", []
        cells = [self.region_cells(region) for region in turn.regions]
        start, end = REGION_TOKENS
        marks = [f"region{i + 1}{start}{self.family.IMAGE_TOKEN * len(c)}{end}" for i, c in enumerate(cells)]
        sentence = f"There are {len(marks)} part regions in the picture: {', '.join(marks)}.\n"
        return sentence, [cell for group in cells for cell in group]

    def encode_question(self, turn: Turn, num_tiles: Sequence[int]) -> tuple[list[int], list[int]]:
        """Encode a user turn up to the place where the answer begins.

        Args:
            turn: its question and regions.
            num_tiles: tiles of each frame, for a first turn; empty for a follow-up.

        Returns:
            Token ids, and for each image place the index of its visual token among those of the sample.
        """
        family, per_tile = self.family, self.config.tokens_per_tile
        blocks = "\n".join(family.image_block(count, per_tile) for count in num_tiles)
        sentence, cells = self._region_prompt(turn)
        # Regions lie on the first picture; its last tile is the one that shows the whole of it.
        whole = (num_tiles[0] - 1) * per_tile if num_tiles else 0
        visual_index = list(range(sum(num_tiles) * per_tile)) + [whole + cell for cell in cells]
        start = self._encode_template(family.TURN_START) + self._encode_text("user\n")
        ids = start + self._encode_template(blocks)
        newline = "\n" if num_tiles else ""
        if sentence:
            ids += self._encode_template(newline + sentence)
            newline = ""
        ids += self._encode_text(newline + turn.question) + self._encode_template(family.TURN_END)
        ids += self._encode_text("\n") + self._encode_template(family.TURN_START) + self._encode_text("assistant\n")
        return ids, visual_index

    def encode_follow_up(self, turn: Turn) -> list[int]:
        """Encode what follows an answer that has been generated: its end, then the next question."""
        end = self._encode_template(self.family.TURN_END) + self._encode_text("\n")
        return end + self.encode_question(turn, ())[0]

    def encode_answer(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Encode an answer with one [SEG] per object; return ids and the object of each [SEG] in order."""
        ids: list[int] = []
        objects: list[int] = []
        done = 0
        for span in sorted(turn.spans, key=lambda s: s.start):
            ids += self._encode_text(turn.answer[done : span.start])
            if span.end > span.start:
                ids.append(self._token_id(PHRASE_TOKENS[0]))
                ids += self._encode_text(turn.answer[span.start : span.end])
                ids.append(self._token_id(PHRASE_TOKENS[1]))
            ids += [self.seg_id] * len(span.objects)
            objects += span.objects
            done = span.end
        return ids + self._encode_text(turn.answer[done:]), objects

    def _encode_sample(self, sample: Sample, num_tiles: Sequence[int]) -> _Encoded:
        ids: list[int] = []
        labels: list[int] = []
        encoded = _Encoded(ids, labels, [], [], [])
        end, newline = self._encode_template(self.family.TURN_END), self._encode_text("\n")
        for number, turn in enumerate(sample.turns):
            question, visual_index = self.encode_question(turn, num_tiles if number == 0 else ())
            if number > 0:
                question = newline + question
            answer, objects = self.encode_answer(turn)
            encoded.seg_columns.extend(
                len(ids) + len(question) + i for i, token in enumerate(answer) if token == self.seg_id
            )
            encoded.seg_objects.extend(objects)
            encoded.visual_index.extend(visual_index)
            answer += end
            ids += question + answer
            labels += [IGNORE_INDEX] * len(question)
            labels += answer if turn.supervised else [IGNORE_INDEX] * len(answer)
        return encoded

    # ---- batches

    def __call__(
        self, samples: Sequence[Sample], keyframes: Sequence[int] | None = None, *, for_masks: bool = True
    ) -> Batch:
        """Build a training batch.

        Args:
            samples: all with the same number of frames and the same picture size.
            keyframes: the frames that the MLLM reads and SAM 2 is prompted on; None = all of them.
            for_masks: False leaves `sam_pixel_values` empty, for training that draws nothing.

        Raises:
            ValueError: samples of different shapes, which cannot share a batch.
        """
        shapes = {sample.frames.shape for sample in samples}
        if len(shapes) != 1:
            raise ValueError(f"samples of one batch need frames of one shape, got {sorted(shapes)}")
        chosen = list(range(samples[0].frames.shape[0]) if keyframes is None else keyframes)
        encoded, tiles, positions, frames, targets, visual = [], [], [], [], [], []
        offset = 0
        for row, sample in enumerate(samples):
            seen = sample.frames[chosen]
            own = self.tiles_per_frame(seen)
            one = self._encode_sample(sample, [len(t) for t in own])
            encoded.append(one)
            visual += [offset + index for index in one.visual_index]
            offset += sum(len(t) for t in own) * self.config.tokens_per_tile
            tiles += own
            positions += [(row, column) for column in one.seg_columns]
            frames += [[row * len(chosen) + k for k in range(len(chosen))]] * len(one.seg_objects)
            targets += [sample.masks[index][chosen] for index in one.seg_objects]
        ids, mask, labels = self._pad(encoded)
        seen_by_sam = np.concatenate([sample.frames[chosen] for sample in samples])
        return Batch(
            input_ids=ids,
            attention_mask=mask,
            labels=labels,
            pixel_values=self.pixel_values(np.concatenate(tiles)),
            visual_index=torch.tensor(visual, dtype=torch.long),
            sam_pixel_values=self.sam_pixel_values(seen_by_sam) if for_masks else torch.zeros(0),
            seg_positions=torch.tensor(positions, dtype=torch.long).reshape(-1, 2),
            seg_frames=torch.tensor(frames, dtype=torch.long).reshape(-1, len(chosen)),
            seg_targets=self._stack_targets(targets, samples[0].frames.shape, len(chosen)),
        )

    @staticmethod
    def _stack_targets(targets: list[Masks], shape: tuple[int, ...], num_frames: int) -> Tensor:
        if not targets:
            return torch.zeros((0, num_frames, *shape[1:3]), dtype=torch.bool)
        return torch.from_numpy(np.stack(targets))

    def _pad(self, rows: Sequence[_Encoded]) -> tuple[Tensor, Tensor, Tensor]:
        length = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for index, row in enumerate(rows):
            ids[index, : len(row.ids)] = torch.tensor(row.ids)
            mask[index, : len(row.ids)] = 1
            labels[index, : len(row.ids)] = torch.tensor(row.labels)
        return ids, mask, labels

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return an answer as text, special tokens included."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))
