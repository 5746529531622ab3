"""Turn Samples into a Batch: token ids, pixels for both encoders, labels, positions of [SEG].

Flow: Sample (data/) -> Processor -> Batch -> sa2va.py; questions and frames (inference/) -> Processor -> Prompts.
Source: Sa2VA, arXiv:2501.04001, section 3.2.
Shapes: B samples, L tokens, P tiles, s their side, F frames for SAM 2 (all samples), K of them per sample, N [SEG].
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sa2va.model.batch import Batch, Prompts
from sa2va.model.config import Sa2VAConfig
from sa2va.model.encoded_text import EncodedText, count_texts
from sa2va.model.families.catalog import find_family
from sa2va.model.families.protocol import NO_GRID, Picture, list_clips
from sa2va.model.families.templates import find_template
from sa2va.model.mask_rows import MaskRows
from sa2va.model.pixels import SAM_MEAN, SAM_STD, normalize
from sa2va.model.seg_design import SEG_DESIGNS
from sa2va.tokens import ADDED_TOKENS, IGNORE_INDEX, PHRASE_TOKENS, REGION_TOKENS
from sa2va.types import Frames, Sample, Turn


class Processor:
    """Processor of one model. Stateless apart from config and tokenizer."""

    def __init__(self, config: Sa2VAConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.family = find_family(config.family)
        self.design = SEG_DESIGNS[config.seg_design]
        tokens = self.design.object_tokens(config.num_keyframes)
        self.seg_tokens = {self._token_id(token): token for token in tokens}  # mask tokens by id
        self._template = find_template(config.template)
        self._special_ids = frozenset(tokenizer.get_added_vocab().values())
        ends = dict.fromkeys((self._template.end, *self._template.stops))
        tokens = [end for end in ends if end in tokenizer.get_added_vocab()]
        # An answer ends at any of these tokens, or when its text ends with any of these strings.
        self.end_ids = tuple(sorted({*map(self._token_id, tokens), tokenizer.eos_token_id} - {None}))
        self.end_texts = tuple(end for end in ends if end not in tokens)
        self.sam_size: int = config.sam2["image_size"]

    def _token_id(self, token: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(token)
        if not isinstance(index, int) or index == self.tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer has no {token} token; a Sa2VA tokenizer has {', '.join(ADDED_TOKENS)}")
        return index

    # ---- pixels

    def read_pictures(self, frames: Frames) -> list[Picture]:
        """Prepare the MLLM's pixels; a frame of a clip may get fewer visual tokens than a single picture."""
        pictures = [self.family.read_picture(frame, self.config, is_frame=len(frames) > 1) for frame in frames]
        return [replace(picture, is_next=number > 0) for number, picture in enumerate(pictures)]

    def sam_frames(self, frames: Frames) -> Tensor:
        """Resize each frame to SAM 2's square input, ignoring aspect ratio: (F, H, W, 3) -> uint8 (F, S, S, 3)."""
        size = (self.sam_size, self.sam_size)
        if frames.shape[1:3] == size:
            return torch.from_numpy(frames.copy())  # a source may fill its array with the next frame
        resized = [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames]
        return torch.from_numpy(np.stack(resized))

    def sam_pixel_values(self, frames: Frames) -> Tensor:
        """Resize each frame to SAM 2's square input and normalize it: (F, H, W, 3) -> (F, 3, S, S)."""
        return normalize(self.sam_frames(frames), SAM_MEAN, SAM_STD)

    # ---- text

    def _encode(self, text: str, literal: range, *, opening: bool = False) -> list[int]:
        """Tokenize a prompt; special tokens within the character range `literal` (user text) become plain text.

        The prompt is tokenized in one call, because some tokenizers treat the start of a text differently.
        """
        encoding = self.tokenizer(text, add_special_tokens=opening, return_offsets_mapping=True, verbose=False)
        ids: list[int] = []
        for index, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
            if index in self._special_ids and start in literal:
                pieces = (text[start : start + 1], text[start + 1 : end])
                ids += [i for piece in pieces for i in self.tokenizer.encode(piece, add_special_tokens=False)]
            else:
                ids.append(index)
        return ids

    def _encode_text(self, text: str) -> list[int]:
        """Tokenize text; special tokens in it become plain text."""
        return self._encode(text, range(len(text))) if text else []

    def region_cells(self, region: NDArray[np.bool_]) -> list[int]:
        """Return the indices of the visual tokens, within one tile, that a region covers.

        A region too small for the grid gets the cell at its center. The released model would drop such a region.
        """
        side = int(self.config.tokens_per_tile**0.5)
        grid = F.interpolate(torch.from_numpy(region)[None, None].float(), (side, side), mode="nearest")
        cells = grid.flatten().nonzero().flatten().tolist()
        if not cells:
            rows, columns = np.nonzero(region)
            row = int(rows.mean() * side / region.shape[0])
            cells = [row * side + int(columns.mean() * side / region.shape[1])]
        return cells

    def _region_prompt(self, turn: Turn) -> tuple[str, list[int]]:
        """Build the prompt sentence that marks the regions; return it with the cells they cover."""
        if not turn.regions:
            return "", []
        if not self.family.takes_regions:
            raise ValueError(f"a {self.config.family} model takes no regions; describe the object in words")
        cells = [self.region_cells(region) for region in turn.regions]
        start, end = REGION_TOKENS
        marks = [f"region{i + 1}{start}{self.family.image_token * len(c)}{end}" for i, c in enumerate(cells)]
        sentence = f"There are {len(marks)} part regions in the picture: {', '.join(marks)}.\n"
        return sentence, [cell for group in cells for cell in group]

    def encode_question(
        self, turn: Turn, num_tokens: Sequence[int], before: str | None = None
    ) -> tuple[list[int], list[int]]:
        """Encode a user turn up to the start of the answer.

        Args:
            turn: gives question and regions.
            num_tokens: visual tokens of each picture of the sample; only a first turn contains the pictures.
            before: template text before a follow-up; None for a first turn.

        Returns:
            Token ids, and for each image token the index of its visual token in the sample.

        Raises:
            ValueError: the turn has regions, and the family takes none.
        """
        family, template = self.family, self._template
        is_first = before is None
        shown = num_tokens if is_first else ()
        pictures = family.picture_joint.join(map(family.image_block, shown))
        sentence, cells = self._region_prompt(turn)
        joint = self.config.question_joint if shown else ""
        if sentence:
            joint = f"\n{sentence}" if shown else sentence
        # Regions of every turn refer to the first picture, whose last tile is the thumbnail of the whole.
        whole = num_tokens[0] - self.config.tokens_per_tile if num_tokens else 0
        visual_index = [*range(sum(shown)), *[whole + cell for cell in cells]]
        if before is None:
            before = template.system.format(self.config.system) if self.config.system else ""
        head = before + template.before_question + pictures + joint
        text = head + turn.question + template.before_answer
        literal = range(len(head), len(head) + len(turn.question))
        return self._encode(text, literal, opening=is_first), visual_index

    def encode_opening(self, question: str, num_tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        """Encode the beginning of a first question whose words are appended one by one; see `encode_question`."""
        turn = Turn(question=question, answer="")
        ids, visual_index = self.encode_question(turn, num_tokens)
        close = self.encode_close("")
        assert ids[-len(close) :] == close, "the template joins the question to what follows it"
        return ids[: -len(close)], visual_index

    def encode_word(self, word: str) -> list[int]:
        """Encode one more word of an open question; its ids do not depend on other words."""
        return self._encode_text(f" {word}")

    def encode_close(self, text: str) -> list[int]:
        """Encode the end of an open question, up to the start of the answer."""
        return self._encode_text(text) + self._encode(self._template.before_answer, range(0))

    def encode_follow_up(self, turn: Turn, *, is_ended: bool = False) -> list[int]:
        """Encode the next question after a generated answer; `is_ended`: the answer contains its end token."""
        end = "" if is_ended else self._template.end
        return self.encode_question(turn, (), before=end + self._template.between)[0]

    def encode_answer(self, turn: Turn, num_frames: int = 1) -> tuple[list[int], list[int]]:
        """Encode an answer with the mask tokens of each object; return ids and the objects in order.

        Args:
            turn: gives answer and spans.
            num_frames: K, prompted frames; some designs write a token for each.
        """
        tokens = [self._token_id(token) for token in self.design.object_tokens(num_frames)]
        ids: list[int] = []
        objects: list[int] = []
        done = 0
        for span in sorted(turn.spans, key=lambda s: (s.start, s.end)):
            if span.start < done:
                text = turn.answer[span.start : span.end]
                raise ValueError(f"phrase {text!r:.60} overlaps the one before it; every phrase needs words of its own")
            ids += self._encode_text(turn.answer[done : span.start])
            if span.end > span.start:
                ids.append(self._token_id(PHRASE_TOKENS[0]))
                ids += self._encode_text(turn.answer[span.start : span.end])
                ids.append(self._token_id(PHRASE_TOKENS[1]))
            ids += tokens * len(span.objects)
            objects += span.objects
            done = span.end
        return ids + self._encode_text(turn.answer[done:]), objects

    def encode_end(self) -> list[int]:
        """Encode the end of an answer."""
        return self._encode(self._template.end, range(0))

    def encode_sample(
        self, sample: Sample, num_tokens: Sequence[int], num_frames: int, max_tokens: int | None = None
    ) -> EncodedText:
        """Encode a whole conversation with its labels.

        A conversation longer than `max_tokens` loses whole turns from its end until the rest fits. If the first turn
        alone is too long, its answer is truncated behind its mask tokens. The result counts both.

        Args:
            sample: the conversation.
            num_tokens: visual tokens of each of its pictures or key frames.
            num_frames: K, key frames of the sample.
            max_tokens: limit of the row, visual tokens included; None = no limit.

        Raises:
            ValueError: the question and the mask tokens of the first turn do not fit, or phrases overlap.
        """
        encoded = EncodedText()
        for number, turn in enumerate(sample.turns):
            part = self._encode_turn(turn, num_tokens, num_frames, self._template.between if number else None)
            if max_tokens is not None and len(encoded.ids) + len(part.ids) > max_tokens:
                if number == 0:
                    encoded.add(part.cut(max_tokens))
                encoded.dropped_turns = len(sample.turns) - max(number, 1)
                break
            encoded.add(part)
        return encoded

    def _encode_turn(self, turn: Turn, num_tokens: Sequence[int], num_frames: int, before: str | None) -> EncodedText:
        question, visual_index = self.encode_question(turn, num_tokens, before)
        answer, objects = self.encode_answer(turn, num_frames)
        columns = [len(question) + place for place, token in enumerate(answer) if token in self.seg_tokens]
        wanted = len(objects) * len(self.design.object_tokens(num_frames))
        if len(columns) != wanted:
            raise ValueError(f"the answer has {len(columns)} mask tokens for {len(objects)} objects; expected {wanted}")
        answer += self.encode_end()
        labels = [IGNORE_INDEX] * len(question)
        labels += answer if turn.supervised else [IGNORE_INDEX] * len(answer)
        return EncodedText(question + answer, labels, columns, objects, visual_index)

    # ---- batches

    def __call__(
        self,
        samples: Sequence[Sample],
        keyframes: Sequence[Sequence[int]] | None = None,
        *,
        seeds: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        for_masks: bool = True,
        mask_side: int | None = None,
        max_tokens: int | None = None,
        max_objects: int = 0,
    ) -> Batch:
        """Build a training batch; samples may differ in kind, size and number of frames.

        Args:
            samples: B conversations.
            keyframes: per sample, indices of the frames that the MLLM reads and that prompt SAM 2; None = all frames.
            seeds: per sample, the seed of its random points and objects; None = 0, 1, ...
            names: per sample, its name in errors; None = its task.
            for_masks: False leaves out pixels and targets for SAM 2, for training without mask decoding.
            mask_side: side of the square that targets are resized to, px; None = the size of the pictures.
            max_tokens: limit of a row, see `encode_sample`.
            max_objects: objects of a sample whose masks are decoded, a random choice of more; 0 = all.

        Raises:
            ValueError: targets of different sizes without `mask_side`, or a sample that does not fit.
        """
        chosen = [range(s.num_frames) for s in samples] if keyframes is None else keyframes
        encoded, pictures, positions = [], [], []
        frames: list[Tensor] = []  # for SAM 2
        masks = MaskRows(self.design, mask_side, max_objects)
        for row, (sample, wanted) in enumerate(zip(samples, chosen, strict=True)):
            try:
                seen = [one.frames([0] if len(sample.media) > 1 else wanted) for one in sample.media]
                own = [picture for one in seen for picture in self.read_pictures(one)]
                one = self.encode_sample(sample, [picture.num_tokens for picture in own], len(wanted), max_tokens)
                if for_masks and one.seg_objects:
                    masks.add(sample, one.seg_objects, wanted, row if seeds is None else seeds[row])
                    frames.append(self.sam_pixel_values(seen[0]))
            except ValueError as error:
                raise ValueError(f"{names[row] if names else sample.task or f'sample {row}'}: {error}") from error
            encoded.append(one)
            pictures.append(own)
            positions += [(row, column) for column in one.seg_columns]
        return Batch(
            **self.collate([(one.ids, one.visual_index) for one in encoded], pictures, left=False),
            **masks.tensors(),
            labels=self.pad([one.labels for one in encoded], IGNORE_INDEX, left=False),
            sam_pixel_values=torch.cat(frames) if frames else torch.zeros(0),
            seg_positions=torch.tensor(positions, dtype=torch.long).reshape(-1, 2),
            counts=count_texts(encoded),
        )

    def prompts(self, questions: Sequence[tuple[Turn, Sequence[Frames]]]) -> Prompts:
        """Build the prompts of first turns, padded on the left.

        Args:
            questions: for each prompt its turn and media: one array per picture, or one with the frames of a clip.
        """
        rows, pictures = [], []
        for turn, seen in questions:
            own = [picture for frames in seen for picture in self.read_pictures(frames)]
            rows.append(self.encode_question(turn, [picture.num_tokens for picture in own]))
            pictures.append(own)
        return Prompts(**self.collate(rows, pictures, left=True))

    def collate(
        self, rows: Sequence[tuple[list[int], list[int]]], pictures: Sequence[Sequence[Picture]], *, left: bool
    ) -> dict[str, Any]:
        """Build the tensors of Prompts from the token ids, visual index and pictures of each row."""
        visual: list[int] = []
        offset = 0
        for (_, index), own in zip(rows, pictures, strict=True):
            visual += [offset + i for i in index]
            offset += sum(picture.num_tokens for picture in own)
        flat = [picture for own in pictures for picture in own]
        grids = [picture.grid for picture in flat if picture.grid != NO_GRID]
        ids = [row for row, _ in rows]
        return {
            "input_ids": self.pad(ids, self.pad_id, left=left),
            "attention_mask": self.pad([[1] * len(row) for row in ids], 0, left=left),
            "pixel_values": torch.cat([picture.pixel_values for picture in flat]) if flat else torch.zeros(0),
            "grids": torch.tensor(grids, dtype=torch.long).reshape(-1, 3),
            "visual_index": torch.tensor(visual, dtype=torch.long),
            "clips": list_clips(flat),
        }

    @property
    def image_id(self) -> int:
        """Id of the image token."""
        return self._token_id(self.family.image_token)

    @property
    def pad_id(self) -> int:
        """Padding id. Padding is masked, so a tokenizer without a pad token can use any id."""
        return self.end_ids[0] if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    @staticmethod
    def pad(rows: Sequence[list[int]], value: int, *, left: bool) -> Tensor:
        """Pad rows to the longest one: lists of ids -> (B, L) long."""
        length = max(map(len, rows))
        padding = [[value] * (length - len(row)) for row in rows]
        padded = [pad + row if left else row + pad for pad, row in zip(padding, rows, strict=True)]
        return torch.tensor(padded, dtype=torch.long)

    @property
    def seg_id(self) -> int:
        """Id of an object's first mask token, which is its only one in a single picture."""
        return next(iter(self.seg_tokens))

    def group_objects(self, ids: Sequence[int], num_frames: int) -> list[list[int]]:
        """Group the mask tokens of an answer by object; see `SegDesign.group_tokens`."""
        return self.design.group_tokens([self.seg_tokens[i] for i in ids if i in self.seg_tokens], num_frames)

    def phrases(self, ids: Sequence[int], num_objects: int, num_frames: int = 1) -> list[str | None]:
        """Return the phrase before the mask tokens of each object of an answer; objects may share a phrase."""
        start, end = map(self._token_id, PHRASE_TOKENS)
        phrases: list[str | None] = []
        phrase: str | None = None
        begin = 0
        for place, token in enumerate(ids):
            if token == start:
                begin = place + 1
            elif token == end:
                phrase = self.decode(ids[begin:place]).strip()
            elif token in self.seg_tokens:
                phrases.append(phrase)
            elif place and ids[place - 1] in self.seg_tokens:
                phrase = None
        return [phrases[places[0]] for places in self.group_objects(ids, num_frames)[:num_objects]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode an answer to text, with special tokens and without the string that ends it."""
        text = str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))
        return next((text.removesuffix(end) for end in self.end_texts if text.endswith(end)), text)

    def has_ended(self, token_ids: Sequence[int]) -> bool:
        """Tell whether the text of an answer ends with a stop string."""
        for end in self.end_texts:
            tail = self.tokenizer.decode(list(token_ids[-2 * len(end) :]), skip_special_tokens=False)
            if str(tail).replace("\r", "").replace("\n", "").endswith(end):
                return True
        return False

    def is_settled(self, text: str) -> bool:
        """Tell whether decoded text is final: it ends in no partial UTF-8 character and no partial stop string."""
        halves = ["\ufffd", *(end[:length] for end in self.end_texts for length in range(1, len(end)))]
        return not text.endswith(tuple(halves))
