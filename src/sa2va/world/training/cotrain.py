"""Train all tasks together: text on every sample, masks where an answer has them, tracking on clips.

Flow: world tasks -> Processor -> Batch -> Sa2VA.forward parts -> losses; clips go on through the tracker.
Source: Sa2VA, arXiv:2501.04001, section 3.3 (one joint stage; both image encoders stay frozen). Ours lets SAM 2's
    learn along at a part of the rate, and adds a pull of the [SEG] embedding towards the object code of masks.py,
    which fades out, and a few tracked frames per clip.
Shapes: B samples, N [SEG] tokens, K key frames, T tracked frames, C SAM 2 width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.media.source import uniform_indices
from sa2va.model.losses import LossConfig, average, candidate_ious, mask_losses, total_loss
from sa2va.model.processor import Batch, Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.model.sam.tracker import Tracker
from sa2va.training.stage import StageConfig
from sa2va.types import Sample
from sa2va.world.tasks.catalog import TASKS
from sa2va.world.training.mask_decoder import UNKNOWN, ObjectCode
from sa2va.world.training.patch_labels import UNMARKED, attribute_words, centre_loss, centre_word, name_cells, name_loss
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, mask_boxes, rank_objects
from sa2va.world.training.task_mixture import FIRST_SHARES, GROUPS, SHARES
from sa2va.world.training.word_grounding import Heard, Words, attention_loss, hear, watched

NUM_FRAMES = 16  # of a clip
CLIPS_PER_PICTURE = 3 / 8  # of a batch: a clip has as many visual tokens as four pictures, and a longer answer
# How many frames are tracked, and how many objects of a clip: long spans hold whole occlusions, all at once would take
# too long.
TRACKED = ((3, 1.5), (9, 0.5))
FOUND_IOU = 0.5  # what was prompted worse is not followed: it would teach to forget what was remembered
# How deep in the text model the first heads of a layer learn to look: from a word to what it names, from a word to what
# is meant so far, where it takes all words before it, and in the end from [SEG] to its object.
NAMED_DEPTH, MEANT_DEPTH, SEG_DEPTH = 1 / 3, 2 / 3, 5 / 6
SLOW = 0.3  # of the rate, for what has been trained before
ALIGNMENT_SHARE = 0.5  # of the stage, during which the pull towards the object code fades out


@dataclass(frozen=True)
class CotrainBatch:
    """A batch of pictures or of clips; clips bring frames to track."""

    batch: Batch
    tracked_pixel_values: Tensor  # (B*T, 3, S, S)
    followed: Tensor  # (n,) the rows of the [SEG] tokens that are tracked; all would cost most of the step
    tracked_targets: Tensor  # (n, T, H, W) bool
    keyframes: tuple[int, ...]
    tracked: tuple[int, ...]  # indices of the T frames, one after the other
    alignment: float  # weight of the pull towards the object code
    heard: Heard  # what the words of questions teach, on V visual tokens
    cells: Tensor  # (Z, 2) row and cell of visual tokens
    cell_attributes: Tensor  # (Z, 4) what lies on each
    marks: Tensor  # (B, tokens) where middles of objects are, UNMARKED where that is not known


@dataclass(frozen=True)
class TaskSource:
    """Build the batch of a step, all of one group of tasks."""

    processor: Processor
    config: StageConfig
    draws: bool  # whether masks are trained, so that SAM 2 needs pixels
    alignment: float = 1.0  # weight of the pull towards the object code, at the start
    shares: Mapping[str, float] | None = None  # of the groups of tasks; None = the stage's own

    def __call__(self, step: int) -> CotrainBatch:
        rng = np.random.default_rng([self.config.seed, step])
        shares = self.shares or (SHARES if self.draws else FIRST_SHARES)
        group = str(rng.choice(list(shares), p=list(shares.values())))
        if group.startswith("video"):
            num_clips = max(1, round(self.config.batch_size * CLIPS_PER_PICTURE))
            return self._clips(self._draw(group, num_clips, step, rng), rng)
        samples = self._draw(group, self.config.batch_size, step, rng)
        batch = self.processor(samples, for_masks=self.draws and group in ("refseg", "gcg"))
        fade = max(0.0, 1 - step / (ALIGNMENT_SHARE * self.config.steps)) if self.draws else 1.0
        return self._untracked(samples, batch, [0], self.alignment * fade)

    def _untracked(
        self, samples: list[Sample], batch: Batch, keyframes: Sequence[int], alignment: float
    ) -> CotrainBatch:
        """Finish a batch of which nothing is followed."""
        side, tokenizer = int(self.processor.config.tokens_per_tile**0.5), self.processor.tokenizer
        heard = hear(samples, batch.input_ids, keyframes, side, tokenizer)
        cells, cell_attributes, marks = name_cells(samples, side)
        return CotrainBatch(
            batch=batch,
            tracked_pixel_values=torch.zeros(0),
            followed=torch.zeros(0),
            tracked_targets=torch.zeros(0),
            keyframes=tuple(keyframes),
            tracked=(),
            alignment=alignment,
            heard=heard,
            cells=cells,
            cell_attributes=cell_attributes,
            marks=marks,
        )

    def _draw(self, group: str, number: int, step: int, rng: np.random.Generator) -> list[Sample]:
        shares = GROUPS[group]
        names = rng.choice(list(shares), number, p=list(shares.values()))
        # Every sample has an index of its own; tasks draw different scenes from the same index.
        first = step * self.config.batch_size
        return [TASKS[str(name)](self.config.seed, "train", first + i) for i, name in enumerate(names)]

    def _clips(self, samples: list[Sample], rng: np.random.Generator) -> CotrainBatch:
        num_keyframes = self.processor.config.num_keyframes
        keyframes = uniform_indices(NUM_FRAMES, num_keyframes)
        num_tracked, num_followed = TRACKED[int(rng.integers(len(TRACKED)))]
        num_followed = max(1, round(num_followed * len(samples)))
        # From right after a key frame, so that memories have the distances they have in use.
        rest = [frame for frame in range(NUM_FRAMES) if frame not in keyframes]
        begins = [place for place, frame in enumerate(rest[: 1 - num_tracked]) if frame - 1 in keyframes]
        begin = int(rng.choice(begins))
        tracked = tuple(rest[begin : begin + num_tracked])
        batch = self.processor(samples, keyframes, for_masks=self.draws)
        untracked = self._untracked(samples, batch, keyframes, 0.0)
        if not self.draws:
            return untracked
        objects = [(s, i) for s in samples for turn in s.turns for i in self._objects(turn.spans)]
        tracks = [torch.from_numpy(sample.masks[row][list(tracked)]) for sample, row in objects]
        order = (
            np.lexsort([rng.random(len(tracks)), -rank_objects(torch.stack(tracks))]) if tracks else np.zeros(0, int)
        )
        followed = order[:num_followed]
        targets = [tracks[row] for row in followed]
        return replace(
            untracked,
            tracked_pixel_values=self.processor.sam_pixel_values(
                np.concatenate([s.frames[list(tracked)] for s in samples])
            ),
            followed=torch.from_numpy(followed),
            tracked_targets=torch.stack(targets) if targets else torch.zeros(0),
            tracked=tracked,
        )

    @staticmethod
    def _objects(spans: Sequence[Any]) -> list[int]:
        return [index for span in sorted(spans, key=lambda s: s.start) for index in span.objects]


class Pointer(nn.Module):
    """Read from a state where the object is that it stands for, and whether there is one. Thrown away after training.

    A choice among the cells of the visual grid is a far sharper lesson than a mask, and comes long before the first
    good mask. It sees nothing but the state: compared with the visual tokens, a state that only repeats the words
    would do, and nothing that SAM 2 could draw from.
    """

    def __init__(self, width: int, num_cells: int) -> None:
        super().__init__()
        self.place = nn.Linear(width, num_cells)
        self.find = nn.Linear(width, 1)

    def forward(self, states: Tensor, cover: Tensor) -> Tensor:
        """Cross-entropy between where each state points and where its objects are.

        Args:
            states: (N, D) that point.
            cover: (N, V) share of each cell that the objects cover.
        """
        logits = self.place(states)[:, : cover.shape[1]].float()
        return average(F.cross_entropy(logits, cover / cover.sum(1, keepdim=True), reduction="none"))

    def found(self, states: Tensor, found: Tensor) -> Tensor:
        """Cross-entropy of whether there is anything that states (N, D) stand for: found (N,) bool."""
        logits = self.find(states)[:, 0].float()
        return average(F.binary_cross_entropy_with_logits(logits, found.float(), reduction="none"))


class Teachers(nn.Module):
    """The two helpers that stages hand on to each other and that no model keeps.

    A run that goes on from a finished model has no code: what the [SEG] embedding imitated is gone with the run that
    trained it, and no longer needed.
    """

    def __init__(self, model: Sa2VA, *, with_code: bool = True) -> None:
        super().__init__()
        self.code = ObjectCode(model.sam2.width) if with_code else None
        self.pointer = Pointer(model.mllm.width, model.config.tokens_per_tile * model.config.num_keyframes)


class CotrainStage:
    """Stage of the training loop; optimises all but the vision tower and the object code.

    With `draws=False` it trains the MLLM and the projector alone: they talk, point and imitate the object code, and
    nothing is drawn. That is several times cheaper, and teaches most of what the language has to learn.
    """

    def __init__(
        self, config: StageConfig, model: Sa2VA, processor: Processor, teachers: Teachers, *, draws: bool
    ) -> None:
        self.config = config
        self.model, self.code = model, teachers.code
        self.draws, self.pointer = draws, teachers.pointer
        trained = model if draws else nn.ModuleDict({"mllm": model.mllm, "projector": model.projector})
        self._module = nn.ModuleDict({"model": trained, "pointer": self.pointer})
        self._loss = LossConfig()
        self._words, self._centre = attribute_words(processor.tokenizer), centre_word(processor.tokenizer)
        text = model.mllm.native.model.language_model
        depths = (NAMED_DEPTH, MEANT_DEPTH, SEG_DEPTH)
        self._looking = [text.layers[int(depth * len(text.layers))].self_attn for depth in depths]
        self._num_looking = text.config.num_attention_heads // text.config.num_key_value_heads
        # The vision tower rests, as in the paper: left free, it forgot its shapes within 400 steps.
        model.mllm.native.model.vision_tower.requires_grad_(False)
        model.sam2.native.vision_encoder.requires_grad_(draws)
        self.batch = TaskSource(processor, config, draws)

    def module(self) -> nn.Module:
        return self._module

    def parameters(self) -> Iterator[dict[str, Any]]:
        # At the full rate the projector's output grew to a hundred times a word's embedding, and no layer could add
        # to it.
        slow = list(self.model.mllm.native.model.multi_modal_projector.parameters())
        if self.draws:
            slow += self.model.sam2.native.vision_encoder.parameters()
        apart = {id(p) for p in slow}
        yield {"params": [p for p in self._module.parameters() if p.requires_grad and id(p) not in apart]}
        yield {"params": slow, "lr_scale": SLOW}

    def losses(self, batch: CotrainBatch) -> dict[str, Tensor]:
        model, text = self.model, batch.batch
        inputs = model.encode(text)
        with watched(self._looking, self._num_looking, text.attention_mask) as looks:
            states = model.mllm.run_text(inputs)
        terms = {"lm": model.text_loss(states, text.labels)}
        helps = self._listen(batch, states, inputs.embeds, looks)
        if len(text.seg_positions):
            seg_states = model.gather_seg_states(states, text)
            helps |= self._point(batch, seg_states, looks[-1])
            if self.draws:
                terms |= self._mask_losses(batch, seg_states)
        return terms | helps | {"total": total_loss(terms, self._loss) + sum(helps.values())}

    def _mask_losses(self, item: CotrainBatch, seg_states: Tensor) -> dict[str, Tensor]:
        """Draw every [SEG] on its key frames, follow some of them on, and compare with what is visible."""
        model, batch = self.model, item.batch
        frames = model.sam2.encode_frames(batch.sam_pixel_values)
        output = model.decode_masks(seg_states, frames, batch.seg_frames)
        targets = batch.seg_targets.flatten(0, 1)
        found = self._find(item, output) if item.tracked else []
        if len(found):
            item = replace(item, followed=item.followed[found], tracked_targets=item.tracked_targets[found])
            output = MaskOutput.concatenate([output, *self._track(item, frames, output)])
            targets = torch.cat([targets, item.tracked_targets.transpose(0, 1).flatten(0, 1)])
        return mask_losses(output, targets, self._loss)

    def _listen(self, item: CotrainBatch, states: Tensor, embeds: Tensor, looks: list[Tensor]) -> dict[str, Tensor]:
        """Lessons of the words of questions, which only training has: what they mean so far, where to look."""
        heard, is_visual = item.heard, self._is_visual(item)
        helps = {}
        if len(heard.meant.positions):
            helps["words"] = self.pointer(states[heard.meant.positions.unbind(1)], heard.meant.cover)
            helps["meant_looks"] = attention_loss(looks[1], is_visual, heard.meant)
        if len(heard.looked.positions):
            helps["looks"] = attention_loss(looks[0], is_visual, heard.looked)
        if len(heard.asked):
            helps["found"] = self.pointer.found(states[heard.asked.unbind(1)], heard.found)
        if len(item.cells):
            helps["names"], helps["centres"] = self._names(item, embeds)
        return helps

    def _is_visual(self, item: CotrainBatch) -> Tensor:
        return item.batch.input_ids == self.model.mllm.native.config.image_token_id  # (B, L)

    def _point(self, item: CotrainBatch, seg_states: Tensor, looks: Tensor) -> dict[str, Tensor]:
        """Lessons of each [SEG], which only training has: where its object is, what a good embedding is."""
        there = item.batch.seg_targets.flatten(1).any(1)
        helps = {"seg_found": self.pointer.found(seg_states, there)}
        if not there.any():
            return helps
        targets = item.batch.seg_targets[there]
        side = int(self.model.config.tokens_per_tile**0.5)
        cover = F.adaptive_avg_pool2d(targets.float(), side).flatten(1)  # (N, K * tokens)
        helps["pointer"] = self.pointer(seg_states[there], cover)
        spoken = Words(item.batch.seg_positions[there], cover)
        helps["seg_looks"] = attention_loss(looks, self._is_visual(item), spoken)
        if item.alignment and self.code is not None:
            helps["alignment"] = item.alignment * self._alignment(self.code, seg_states[there], targets[:, 0])
        return helps

    def _names(self, item: CotrainBatch, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Hold visual tokens of first frames against the words that are true of them, see names.py."""
        first = self._is_visual(item).int().argmax(dim=1)  # the picture's tokens stand in one run
        rows, cells = item.cells.unbind(1)
        words = self.model.mllm.native.get_input_embeddings().weight
        names = name_loss(embeds[rows, first[rows] + cells], item.cell_attributes, self._words, words)
        marked = torch.nonzero(item.marks[:, 0] != UNMARKED)  # (R, 1)
        tokens = embeds[marked, first[marked] + torch.arange(item.marks.shape[1], device=first.device)]
        return names, centre_loss(tokens, item.marks[marked[:, 0]], words[self._centre])

    def _alignment(self, code: ObjectCode, seg_states: Tensor, targets: Tensor) -> Tensor:
        """Squared distance between the [SEG] embeddings and the codes of where their objects are."""
        boxes = mask_boxes(targets)
        unknown = torch.full((len(boxes), len(ATTRIBUTE_SIZES)), UNKNOWN, device=boxes.device)
        with torch.no_grad():
            placed = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
            wanted = code(self.model.sam2, unknown, boxes, placed)
        return average((self.model.projector(seg_states).float() - wanted.float()).square())

    @torch.no_grad()
    def _find(self, item: CotrainBatch, output: MaskOutput) -> Tensor:
        """Return which of the followed objects their surest key frame shows."""
        spoken, number = self._speak(item, output), len(item.keyframes)
        surest = spoken.scores.view(-1, number).argmax(1)
        objects = torch.arange(len(surest), device=surest.device)
        masks = spoken.select(objects * number + surest).settled().candidates
        ious = candidate_ious(masks, item.batch.seg_targets[item.followed, surest].float())[:, 0]
        return torch.nonzero(ious > FOUND_IOU)[:, 0]

    @staticmethod
    def _speak(item: CotrainBatch, output: MaskOutput) -> MaskOutput:
        """Select the followed objects on their key frames: n * K rows."""
        number = len(item.keyframes)
        every = torch.arange(number, device=item.followed.device)
        return output.select((item.followed[:, None] * number + every).flatten())

    def _track(self, item: CotrainBatch, frames: FrameFeatures, output: MaskOutput) -> list[MaskOutput]:
        """Prompt the sure key frames, then follow some of the objects through the tracked frames."""
        sam2, seg_frames = self.model.sam2, item.batch.seg_frames[item.followed]
        num_keyframes = seg_frames.shape[1]
        tracker, spoken = Tracker(sam2), self._speak(item, output)
        for k, mine in enumerate(self.model.choose_prompts(spoken, num_keyframes)):
            if len(mine):
                ids = torch.div(mine, num_keyframes, rounding_mode="floor")
                seen = frames.select(seg_frames[ids, k])
                tracker.prompt(item.keyframes[k], seen, spoken.select(mine), ids=ids.tolist())
        ahead = sam2.encode_frames(item.tracked_pixel_values)
        owner = torch.div(seg_frames[:, 0], num_keyframes, rounding_mode="floor")  # (n,) which clip
        number, ids = len(item.tracked), list(range(len(owner)))
        return [tracker.step(frame, ahead.select(owner * number + t), ids) for t, frame in enumerate(item.tracked)]
