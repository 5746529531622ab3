"""Ground an expression word by word with Sa2VA: a language-model state and a target mask after every word.

Flow: image, words -> WordGrounder.open_stream -> GroundingStream (streaming), or WordGrounder.ground_all (whole
    expressions in one causal pass, for training) -> states and mask logits -> belief maps on the canvas.
Source: Sa2VA, arXiv:2501.04001. After each word a side branch appends the end of the question and the beginning of the
    answer up to [SEG], which gives the mask of the words so far. Later words do not attend to the branch.
Shapes: B images with an expression each, L tokens, N words, R tokens of a side branch, S width of the language model,
    h w mask grid, g h g w grid of cells on the canvas.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.gaze.letterbox import Letterbox
from sa2va.gaze.model.density import Grid
from sa2va.inference.decoding import TextStream
from sa2va.inference.predictor import FORCED_ANSWER
from sa2va.model.batch import Prompts
from sa2va.model.branches import additive_mask
from sa2va.model.families.protocol import TextInput
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.model.seg_design import one_frame_rows
from sa2va.tokens import require_utf8
from sa2va.types import Frames

REQUEST = "Please segment"  # prefix of every expression
MAX_WORDS = 256
_SAMPLES = 4  # sampling points per side of a cell when a map is resampled


def check_word(word: str) -> str:
    """Return a word without surrounding white space.

    Raises:
        ValueError: it is no text, empty, several words, or not valid UTF-8.
    """
    if not isinstance(word, str) or not word.strip():
        raise ValueError(f"word {word!r:.40}: expected a word, got no text; pass one word of the expression")
    if len(word.split()) > 1:
        raise ValueError(f"word {word!r:.40}: expected one word at a time; split the expression at its spaces")
    return require_utf8(word.strip(), "word")


def split_words(expression: str) -> list[str]:
    """Split an expression at white space.

    Raises:
        ValueError: it is empty or too long.
    """
    words = expression.split() if isinstance(expression, str) else []
    if not words:
        raise ValueError(f"expression {expression!r:.40}: expected at least one word")
    if len(words) > MAX_WORDS:
        raise ValueError(f"expression of {len(words)} words: expected at most {MAX_WORDS}; shorten it")
    return words


def canvas_maps(maps: Tensor, image_size: tuple[int, int], grid: Grid) -> Tensor:
    """Resample maps of an image resized to a square onto the cells of the canvas; letterbox bars are 0.

    Args:
        maps: (B, I, h, w), in any unit.
        image_size: width and height of the image, px.
        grid: Cells of the canvas.

    Returns:
        (B, I, g h, g w), the mean over each cell.
    """
    box = Letterbox(image_size=image_size)
    rows, columns = (size * _SAMPLES for size in grid.shape)
    step = grid.cell / _SAMPLES
    x = ((torch.arange(columns, device=maps.device) + 0.5) * step - box.offset[0]) / (box.scale * image_size[0])
    y = ((torch.arange(rows, device=maps.device) + 0.5) * step - box.offset[1]) / (box.scale * image_size[1])
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).float()  # (rows, columns, 2) xy in 0..1
    read = F.grid_sample(
        maps.float(), (places * 2 - 1).expand(len(maps), -1, -1, -1), padding_mode="border", align_corners=False
    )
    inside = ((places >= 0) & (places <= 1)).all(-1)
    return F.avg_pool2d(read * inside, _SAMPLES)


class WordGrounder:
    """Word-by-word grounding with one Sa2VA; holds no weights of its own."""

    def __init__(self, model: Sa2VA, processor: Processor) -> None:
        self.model, self.processor = model, processor
        close = processor.encode_close(".")
        answer, _ = processor.encode_answer(FORCED_ANSWER)
        self.branch = [*close, *answer[: answer.index(processor.seg_id) + 1]]  # R tokens, [SEG] last

    @property
    def device(self) -> torch.device:
        return self.model.projector.fc1.weight.device

    def encode_images(self, frames: Frames) -> FrameFeatures:
        """Encode images (B, H, W, 3) with SAM 2."""
        pixels = self.processor.sam_pixel_values(frames)
        return self.model.sam2.encode_frames(pixels.to(self.device, self.model.projector.fc1.weight.dtype))

    def decode_masks(self, seg_states: Tensor, features: FrameFeatures, owner: Tensor) -> Tensor:
        """Decode the mask of each [SEG] state (N, S) on its image (N,): logits (N, h, w)."""
        return self.model.decode_masks(seg_states, features, one_frame_rows(owner)).mask_logits

    def build_prompts(self, frames: Sequence[Frames], words: Sequence[Sequence[str]] | None = None) -> Prompts:
        """Build the prompts up to the end of REQUEST, or of the words if given, padded on the right."""
        rows, pictures = [], []
        for number, frame in enumerate(frames):
            own = self.processor.read_pictures(frame)
            ids, index = self.processor.encode_opening(REQUEST, [picture.num_tokens for picture in own])
            for word in words[number] if words is not None else ():
                ids = ids + self.processor.encode_word(check_word(word))
            rows.append((ids, index))
            pictures.append(own)
        return Prompts(**self.processor.collate(rows, pictures, left=False)).to(self.device)

    def open_stream(self, frame: Frames) -> "GroundingStream":
        """Encode one image (1, H, W, 3), ready for the first word."""
        return GroundingStream(self, frame)

    def ground_all(
        self, frames: Sequence[Frames], words: Sequence[Sequence[str]], features: FrameFeatures
    ) -> tuple[Tensor, Tensor]:
        """Ground B whole expressions in one causal pass, side branches included.

        Args:
            frames: B images (1, H, W, 3).
            words: B expressions.
            features: SAM 2 features of the B images.

        Returns:
            States (B, N + 1, S) and mask logits (B, N + 1, h, w), before the first word and after each word; a short
            expression repeats its last word.
        """
        prompts = self.build_prompts(frames, words)
        ends = self.find_word_ends(prompts, words)
        inputs = self.add_branches(self.model.encode(prompts), ends)
        states = self.model.mllm.run_text(inputs)  # (B, L + (N + 1) * R, S)
        main, row = prompts.input_ids.shape[1], torch.arange(len(ends), device=ends.device)
        last = main + torch.arange(1, ends.shape[1] + 1, device=ends.device) * len(self.branch) - 1
        logits = self.decode_masks(states[:, last].flatten(0, 1), features, row.repeat_interleave(ends.shape[1]))
        return states[row[:, None], ends], logits.unflatten(0, ends.shape)

    def find_word_ends(self, prompts: Prompts, words: Sequence[Sequence[str]]) -> Tensor:
        """Find the column of the last token of the prompt and of each word, (B, N + 1); short rows repeat the last."""
        most = max(map(len, words))
        rows = []
        for number, row in enumerate(words):
            lengths = [len(self.processor.encode_word(word)) for word in row]
            column = int(prompts.attention_mask[number].sum()) - 1 - sum(lengths)
            ends = [column]
            for length in lengths:
                ends.append(ends[-1] + length)
            rows.append(ends + [ends[-1]] * (most - len(row)))
        return torch.tensor(rows, device=prompts.input_ids.device)

    def add_branches(self, inputs: TextInput, ends: Tensor) -> TextInput:
        """Append a side branch per word end; it attends to its prefix and itself, and nothing attends to it."""
        assert inputs.attention_mask is not None
        (rows, main), size = inputs.embeds.shape[:2], len(self.branch)
        count, device = ends.shape[1], ends.device
        branch = self.model.mllm.embed_tokens(torch.tensor([self.branch], device=device))
        embeds = torch.cat([inputs.embeds, branch.repeat(rows, count, 1)], dim=1)
        total = main + count * size
        place = torch.arange(total, device=device)
        owner = torch.where(
            place < main, -1, torch.div(place - main, size, rounding_mode="floor")
        )  # -1 = main sequence
        reach = torch.cat([place[:main].expand(rows, -1), ends.repeat_interleave(size, dim=1)], dim=1)  # (B, total)
        sees = (
            (owner == -1)
            & (place <= reach[..., None])
            & F.pad(inputs.attention_mask.bool(), (0, total - main))[:, None]
        )
        sees |= (owner[:, None] == owner) & (owner >= 0) & (place <= place[:, None])
        sees |= torch.eye(total, dtype=torch.bool, device=device)
        known = inputs.position_ids.expand(*inputs.position_ids.shape[:-2], rows, main)
        base = known.amax(0) if known.ndim == 3 else known
        following = base.cummax(1).values.gather(1, ends).repeat_interleave(size, dim=1) + 1  # (B, (N + 1) * R)
        following = following + torch.arange(size, device=device).repeat(count)
        positions = torch.cat([known, following.expand(*known.shape[:-1], -1)], dim=-1)
        places = inputs.visual_places
        return replace(
            inputs,
            embeds=embeds,
            attention_mask=additive_mask(sees[:, None], embeds.dtype),
            position_ids=positions,
            visual_places=None if places is None else F.pad(places, (0, total - main)),
        )


class GroundingStream:
    """One image and the words so far in a key-value cache."""

    def __init__(self, grounder: WordGrounder, frame: Frames) -> None:
        self._grounder = grounder
        self.features = grounder.encode_images(frame)
        self._stream: TextStream = TextStream(grounder.model.mllm)
        self._state = self._stream.start(grounder.model.encode(grounder.build_prompts([frame])))[:, -1]

    def append(self, word: str) -> None:
        """Append a word to the cache."""
        ids = self._grounder.processor.encode_word(check_word(word))
        self._state = self._stream.append(self._embed(ids))[:, -1]

    @property
    def state(self) -> Tensor:
        """Language-model state after the last word, (S,)."""
        return self._state[0]

    def probe(self) -> Tensor:
        """Decode the mask of the words so far, logits (h, w), without changing the cache."""
        seg = self._stream.probe(self._embed(self._grounder.branch))[:, -1]
        return self._grounder.decode_masks(seg, self.features, torch.zeros(1, dtype=torch.long, device=seg.device))[0]

    def _embed(self, ids: Sequence[int]) -> Tensor:
        grounder = self._grounder
        return grounder.model.mllm.embed_tokens(torch.tensor([list(ids)], device=grounder.device))
