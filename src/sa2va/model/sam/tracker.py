"""Track objects through frames with SAM 2's memory: bounded memory per object, objects batched.

Flow: sam2.py (features, prompted masks) -> Tracker.prompt / Tracker.step, frame by frame -> MaskOutput.
Source: SAM 2, arXiv:2408.00714, section 4: 6 recent memories, up to 15 recent pointers and the prompted frames.
    Two differences from its code: memories are binarized per object instead of per frame; a prompted frame beyond
    `max_conditioning` loses both its memory and its pointer.
Shapes: N objects, C width, g side of the coarsest grid, L memory tokens of one object.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Memory, Sam2


@dataclass(frozen=True, kw_only=True)
class TrackPolicy:
    """Memory rules that differ between Sa2VA and stock SAM 2."""

    overwrite_absent: bool  # empty the mask of an absent object, also in memory
    binarize_prompted: bool  # encode the memory of a prompted frame from a binary mask
    single_mask: bool  # a box or several clicks are unambiguous: decode one mask, not the best of three
    max_conditioning: int | None = None  # maximum number of prompted frames that a frame attends to; None = all


SOFT = TrackPolicy(overwrite_absent=False, binarize_prompted=False, single_mask=False)  # as Sa2VA is trained
STOCK = TrackPolicy(overwrite_absent=True, binarize_prompted=True, single_mask=True)  # SAM 2


def nearest_frames(frames: Collection[int], frame: int, number: int | None) -> set[int]:
    """Select prompted frames to attend to: the last before a frame, the first at or after it, then the nearest.

    Args:
        frames: indices of all prompted frames.
        frame: index of the frame to track.
        number: maximum number to select; None = all.
    """
    if number is None or len(frames) <= number:
        return set(frames)
    sides = [max((f for f in frames if f < frame), default=None), min((f for f in frames if f >= frame), default=None)]
    chosen = [f for f in sides if f is not None][:number]
    rest = sorted((f for f in frames if f not in chosen), key=lambda f: abs(f - frame))
    return {*chosen, *rest[: number - len(chosen)]}


class ObjectMemory:
    """Memory of one object. The number of tracked frames in it is bounded."""

    def __init__(self, sam2: Sam2, max_conditioning: int | None) -> None:
        config = sam2.native.config
        self._max_conditioning = max_conditioning
        self._reach = config.num_maskmem  # frames; older tracked frames are not attended to
        self._pointer_reach = config.max_object_pointers_in_encoder
        self.prompted: dict[int, Memory] = {}
        self.recent: deque[tuple[int, Memory]] = deque(maxlen=config.num_maskmem - 1)
        self.pointers: deque[tuple[int, Tensor]] = deque(maxlen=config.max_object_pointers_in_encoder - 1)

    def prompt(self, frame: int, memory: Memory) -> None:
        """Store the memory of a prompted frame; it replaces the tracked memory of that frame."""
        self.prompted[frame] = memory
        self._keep_tracked({index for index, _ in self.pointers} - {frame})

    def track(self, frame: int, memory: Memory) -> None:
        """Store the memory of a frame without a prompt."""
        self.recent.append((frame, memory))
        self.pointers.append((frame, memory.pointers))

    def choose(self, frame: int) -> list[int]:
        """Select the prompted frames that a frame attends to; drop past ones that no later frame can select.

        A past frame that is not selected now is never selected later, as the selected ones remain nearer. A
        dropped frame that is recent becomes a tracked frame.
        """
        chosen = nearest_frames(self.prompted, frame, self._max_conditioning)
        for index in [i for i in self.prompted if i < frame and i not in chosen]:
            memory = self.prompted.pop(index)
            if frame - index < self._reach:
                self._insert(index, memory)
        return [index for index in self.prompted if index in chosen]

    def recall(self, frame: int) -> tuple[list[tuple[int, Memory]], list[tuple[int, Tensor]]]:
        """Return the memories for a frame with their temporal slots, and the pointers with their ages."""
        chosen = [index for index in self.choose(frame) if index != frame]
        memories = [(-1, self.prompted[index]) for index in chosen]  # the last slot belongs to prompted frames
        memories += [(frame - index - 1, memory) for index, memory in self.recent if 0 < frame - index < self._reach]
        pointers = [(frame - index, self.prompted[index].pointers) for index in chosen if index < frame]
        tracked = [(frame - index, pointer) for index, pointer in reversed(self.pointers)]  # newest first
        pointers += [(age, pointer) for age, pointer in tracked if 0 < age < self._pointer_reach]
        return memories, pointers

    def _insert(self, frame: int, memory: Memory) -> None:
        self.recent = deque(sorted([*self.recent, (frame, memory)], key=_frame), maxlen=self.recent.maxlen)
        pointers = sorted([*self.pointers, (frame, memory.pointers)], key=_frame)
        self.pointers = deque(pointers, maxlen=self.pointers.maxlen)

    def _keep_tracked(self, frames: set[int]) -> None:
        self.recent = deque([item for item in self.recent if item[0] in frames], maxlen=self.recent.maxlen)
        self.pointers = deque([item for item in self.pointers if item[0] in frames], maxlen=self.pointers.maxlen)


def _frame(item: tuple[int, object]) -> int:
    return item[0]


class Tracker:
    """Memories of all objects; objects may be added and removed at any frame.

    To track backward, negate the frame numbers.
    """

    def __init__(self, sam2: Sam2, policy: TrackPolicy = SOFT, *, num_frames: int | None = None) -> None:
        """Start without objects.

        Args:
            sam2: decodes masks and encodes memories.
            policy: memory rules.
            num_frames: number of frames of the clip, if known; SAM 2.1 scales the ages of pointers by it.
        """
        config = sam2.native.config
        self._sam2, self.policy = sam2, policy
        limits = [n for n in (policy.max_conditioning, config.max_cond_frame_num) if n is not None and n > 0]
        self._max_conditioning = min(limits, default=None)
        most = config.max_object_pointers_in_encoder
        self._max_pointers = most if num_frames is None else min(num_frames, most)
        self._objects: dict[int, ObjectMemory] = {}

    @property
    def objects(self) -> dict[int, ObjectMemory]:
        """Memory of each object by its id, in the order of creation."""
        return self._objects

    def prompt(
        self,
        frame: int,
        features: FrameFeatures,
        output: MaskOutput,
        *,
        ids: Sequence[int] | None = None,
        given: Tensor | None = None,
    ) -> None:
        """Store the memory of a prompted frame.

        Args:
            frame: frame index; may be ahead of the frames tracked so far.
            features: features of the frame, F = 1, or N rows.
            output: masks of the frame, N rows.
            ids: ids of known or new objects; None = 0..N-1.
            given: bool (N, S, S), the mask prompts at full size if `output` comes from mask prompts.
        """
        embeds = features.expand(len(output.pointers)).embeds
        memory = self._sam2.encode_memory(embeds, output, given=given, binarize=self.policy.binarize_prompted)
        for row, key in enumerate(range(len(output.pointers)) if ids is None else ids):
            known = self._objects.setdefault(key, ObjectMemory(self._sam2, self._max_conditioning))
            known.prompt(frame, memory.row(row))

    def remove(self, key: int) -> None:
        """Remove an object; unknown ids are ignored."""
        self._objects.pop(key, None)

    def reversed(self, key: int) -> "Tracker":
        """Return a tracker of one object for backward tracking from its prompted frames; frame numbers are negated."""
        back = Tracker(self._sam2, self.policy)
        back._max_pointers = self._max_pointers
        memory = back._objects[key] = ObjectMemory(self._sam2, self._max_conditioning)
        memory.prompted = {-frame: kept for frame, kept in self._objects[key].prompted.items()}
        return back

    def condition(self, frame: int, features: FrameFeatures, ids: Sequence[int]) -> Tensor:
        """Condition a frame's features on each object's memories of other frames: (N, C, g, g)."""
        places: dict[object, Tensor] = {}
        read = [self._read(frame, self._objects.get(key), features.embeds, places) for key in ids]
        groups: dict[tuple[int, int], list[int]] = {}
        for row, one in enumerate(read):
            groups.setdefault((one.num_memories, one.num_pointer_tokens), []).append(row)
        if len(groups) == 1:
            return self._attend(features.embeds, read)
        embeds = features.expand(len(ids)).embeds
        conditioned = torch.empty_like(embeds)
        for rows in groups.values():  # memory attention has no padding mask: a batch needs memories of one length
            conditioned[rows] = self._attend(embeds[rows], [read[row] for row in rows])
        return conditioned

    def step(self, frame: int, features: FrameFeatures, ids: Sequence[int] | None = None) -> MaskOutput:
        """Track objects to the next frame and store its memory.

        Args:
            frame: frame index.
            features: features of the frame, F = 1, or one row per object.
            ids: ids of the objects; None = all.

        Returns:
            One row per object, in the order of `ids`.
        """
        ids = list(self._objects) if ids is None else list(ids)
        if not ids:
            raise ValueError("nothing to track: no frame has been prompted")
        embeds = self.condition(frame, features, ids)
        features = features.expand(len(ids))
        output = self._sam2.decode(embeds, features.high_res, self._sam2.language_prompt(None, len(ids)))
        if self.policy.overwrite_absent:
            output = output.without_absent()
        memory = self._sam2.encode_memory(features.embeds, output)
        for row, key in enumerate(ids):
            self._objects[key].track(frame, memory.row(row))
        return output

    def _read(self, frame: int, known: ObjectMemory | None, like: Tensor, places: dict[object, Tensor]) -> "_Read":
        """Gather one object's memories of other frames; `places` caches position encodings, which objects share."""
        memories, pointers = ([], []) if known is None else known.recall(frame)
        if not memories:
            return _Read(like, like, 0, 0)
        native = self._sam2.native
        slots, ages = [slot for slot, _ in memories], [age for age, _ in pointers]
        tokens, positions = [memory.features for _, memory in memories], []
        num_pointer_tokens = 0
        if pointers:
            kept = [pointer for _, pointer in pointers]
            split, where = native._process_object_pointers(
                ages, kept, self._max_pointers, *kept[0].shape, kept[0].device
            )
            num_pointer_tokens = len(split)
            tokens.append(split)
            positions.append(where)
        key = (*slots, None, *ages)
        if key not in places:
            temporal = native.memory_temporal_positional_encoding  # (7, 1, 1, 64)
            spatial = [memory.positions + temporal[slot] for slot, memory in memories]
            places[key] = torch.cat([*spatial, *positions])
        return _Read(torch.cat(tokens).to(like.dtype), places[key], len(memories), num_pointer_tokens)

    def _attend(self, embeds: Tensor, read: Sequence["_Read"]) -> Tensor:
        """Condition features (1 or N, C, g, g) on the memories of N objects, all of one length."""
        if not read[0].num_memories:
            return self._sam2.without_memory(embeds.expand(len(read), -1, -1, -1))
        attended = self._sam2.attend(
            embeds,
            torch.cat([one.tokens for one in read], dim=1),  # (L, N, 64)
            torch.cat([one.positions for one in read], dim=1),
            num_memories=read[0].num_memories,
            num_pointer_tokens=read[0].num_pointer_tokens,
        )
        return attended.to(embeds.dtype)  # under autocast on a GPU, attention returns float32


class _Read(NamedTuple):
    """Memory tokens and positions of one object, for one frame."""

    tokens: Tensor  # (L, 1, 64)
    positions: Tensor  # (L, 1, 64)
    num_memories: int
    num_pointer_tokens: int
