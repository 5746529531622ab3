"""Track objects through frames with SAM 2's memory: bounded memory per object, objects batched.

Flow: sam2.py (features, prompted masks) -> Tracker.prompt / Tracker.step, frame by frame -> MaskOutput.
Source: SAM 2, arXiv:2408.00714, section 4: 6 recent memories, up to 15 recent pointers and the prompted frames.
    Two differences from its code: memories are binarized per object instead of per frame; a prompted frame beyond
    `max_conditioning` loses both its memory and its pointer.
Shapes: N objects, C width, g side of the coarsest grid, L memory tokens of one object.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sa2va.model.sam.memory_attention import Memories, Merged, merge_projections
from sa2va.model.sam.memory_bank import MemoryBank, Page, Reading, Recalled, flatten_readings, send
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Memory, Sam2

MOST_MERGED = 8  # objects; merged projections hold the keys and values of all layers, 0.1 GB an object at 1024 px


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
    """Pages of one object's memory by frame. The number of tracked frames is bounded."""

    def __init__(self, sam2: Sam2, max_conditioning: int | None) -> None:
        config = sam2.native.config
        self._max_conditioning = max_conditioning
        self._reach = config.num_maskmem  # frames; older tracked frames are not attended to
        self._pointer_reach = config.max_object_pointers_in_encoder
        self.prompted: dict[int, Page] = {}
        self.recent: deque[tuple[int, int]] = deque(maxlen=config.num_maskmem - 1)  # frame, row of the map
        self.pointers: deque[tuple[int, int]] = deque(maxlen=config.max_object_pointers_in_encoder - 1)

    @property
    def map_rows(self) -> set[int]:
        """Rows of all maps in use."""
        return {page.map for page in self.prompted.values()} | {row for _, row in self.recent}

    @property
    def pointer_rows(self) -> set[int]:
        """Rows of all pointers in use."""
        return {page.pointer for page in self.prompted.values()} | {row for _, row in self.pointers}

    def prompt(self, frame: int, page: Page) -> None:
        """Store the memory of a prompted frame; it replaces the tracked memory of that frame."""
        self.prompted[frame] = page
        self._keep_tracked({index for index, _ in self.pointers} - {frame})

    def track(self, frame: int, page: Page) -> None:
        """Store the memory of a frame without a prompt."""
        self.recent.append((frame, page.map))
        self.pointers.append((frame, page.pointer))

    def choose(self, frame: int) -> list[int]:
        """Select the prompted frames that a frame attends to; drop past ones that no later frame can select.

        A past frame that is not selected now is never selected later, as the selected ones remain nearer. A
        dropped frame that is recent becomes a tracked frame.
        """
        chosen = nearest_frames(self.prompted, frame, self._max_conditioning)
        for index in [i for i in self.prompted if i < frame and i not in chosen]:
            page = self.prompted.pop(index)
            if frame - index < self._reach:
                self._insert(index, page)
        return [index for index in self.prompted if index in chosen]

    def recall(self, frame: int) -> Reading:
        """Select the maps and pointers that a frame attends to: prompted frames first, then tracked ones."""
        chosen = [index for index in self.choose(frame) if index != frame]
        last = self._reach - 1  # this temporal slot belongs to prompted frames
        maps = [(last, self.prompted[index].map) for index in chosen]
        maps += [(frame - index - 1, row) for index, row in self.recent if 0 < frame - index < self._reach]
        pointers = [(frame - index, self.prompted[index].pointer) for index in chosen if index < frame]
        tracked = [(frame - index, row) for index, row in reversed(self.pointers)]  # newest first
        pointers += [(age, row) for age, row in tracked if 0 < age < self._pointer_reach]
        if not maps:
            return Reading()
        return Reading(
            maps=[row for _, row in maps],
            slots=[slot for slot, _ in maps],
            pointers=[row for _, row in pointers],
            ages=[age for age, _ in pointers],
        )

    def _insert(self, frame: int, page: Page) -> None:
        self.recent = deque(sorted([*self.recent, (frame, page.map)]), maxlen=self.recent.maxlen)
        self.pointers = deque(sorted([*self.pointers, (frame, page.pointer)]), maxlen=self.pointers.maxlen)

    def _keep_tracked(self, frames: set[int]) -> None:
        self.recent = deque([item for item in self.recent if item[0] in frames], maxlen=self.recent.maxlen)
        self.pointers = deque([item for item in self.pointers if item[0] in frames], maxlen=self.pointers.maxlen)


def track_frame(
    sam2: Sam2, policy: TrackPolicy, features: FrameFeatures, recalled: Recalled, merged: Merged | None = None
) -> tuple[MaskOutput, Memory]:
    """Track objects to a frame, as a function of tensors alone: no value is read, so that torch.compile takes it whole.

    Args:
        sam2: decodes masks and encodes memories.
        policy: memory rules.
        features: features of the frame, F = 1, or one row per object.
        recalled: memories of N objects.
        merged: see `read_memories`.

    Returns:
        The masks, and the memory of the frame.
    """
    memories = recalled.embed(sam2, features.embeds.dtype)
    output, memory = decode_frame(sam2, policy, features, sam2.attend(features.embeds, [memories], merged))
    return output, memory._replace(positions=recalled.positions[:, None])  # known, so that none are computed


def decode_frame(
    sam2: Sam2, policy: TrackPolicy, features: FrameFeatures, conditioned: Tensor
) -> tuple[MaskOutput, Memory]:
    """Decode masks from features conditioned on memory (N, C, g, g), and encode their memory."""
    features = features.expand(len(conditioned))
    output = sam2.decode(conditioned, features.high_res, sam2.language_prompt(None, len(conditioned)))
    if policy.overwrite_absent:
        output = output.without_absent()
    return output, sam2.encode_memory(features.embeds, output)


Follow = Callable[[Sam2, TrackPolicy, FrameFeatures, Recalled, Merged | None], tuple[MaskOutput, Memory]]


class Tracker:
    """Memories of all objects; objects may be added and removed at any frame.

    To track backward, negate the frame numbers.
    """

    def __init__(
        self,
        sam2: Sam2,
        policy: TrackPolicy = SOFT,
        *,
        num_frames: int | None = None,
        follow: Follow = track_frame,
    ) -> None:
        """Start without objects.

        Args:
            sam2: decodes masks and encodes memories.
            policy: memory rules.
            num_frames: number of frames of the clip, if known; SAM 2.1 scales the ages of pointers by it.
            follow: `track_frame`, or the same compiled.
        """
        config = sam2.native.config
        self._sam2, self.policy = sam2, policy
        limits = [n for n in (policy.max_conditioning, config.max_cond_frame_num) if n is not None and n > 0]
        self._max_conditioning = min(limits, default=None)
        most = config.max_object_pointers_in_encoder
        self._max_pointers = most if num_frames is None else min(num_frames, most)
        self._objects: dict[int, ObjectMemory] = {}
        self._bank, self._follow = MemoryBank(), follow
        self._device = sam2.native.no_memory_embedding.device
        self._alone = follow is track_frame and self._device.type == "cpu"
        self._merged: Merged | None = None

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
        pages = self._reserve(len(output.pointers))
        self._bank.write(memory, pages)
        for page, key in zip(pages, range(len(pages)) if ids is None else ids, strict=True):
            known = self._objects.setdefault(key, ObjectMemory(self._sam2, self._max_conditioning))
            known.prompt(frame, page)

    def remove(self, key: int) -> None:
        """Remove an object; unknown ids are ignored."""
        self._objects.pop(key, None)

    def reversed(self, key: int) -> "Tracker":
        """Return a tracker of one object for backward tracking from its prompted frames; frame numbers are negated."""
        back = Tracker(self._sam2, self.policy, follow=self._follow)
        back._max_pointers = self._max_pointers
        prompted = self._objects[key].prompted
        back._bank, pages = self._bank.copy(list(prompted.values()))
        memory = back._objects[key] = ObjectMemory(self._sam2, self._max_conditioning)
        memory.prompted = dict(zip([-frame for frame in prompted], pages, strict=True))
        return back

    def condition(self, frame: int, features: FrameFeatures, ids: Sequence[int]) -> Tensor:
        """Condition a frame's features on each object's memories of other frames: (N, C, g, g)."""
        return self._read(self._plan(frame, ids), features.embeds)

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
        plan = self._plan(frame, ids)
        if plan.is_whole:
            recalled = self._bank.recall(plan.parts[0], plan.index[0], self._max_pointers)
            if self._merged is None and not self._alone:
                self._merged = merge_projections(self._sam2.native.memory_attention)
            merged = self._merged if len(ids) <= MOST_MERGED else None
            output, memory = self._follow(self._sam2, self.policy, features, recalled, merged)
        else:
            output, memory = decode_frame(self._sam2, self.policy, features, self._read(plan, features.embeds))
        self._bank.write(memory, plan.pages, plan.rows)
        for page, key in zip(plan.pages, ids, strict=True):
            self._objects[key].track(frame, page)
        return output

    def _reserve(self, number: int) -> list[Page]:
        maps = set[int]().union(*(known.map_rows for known in self._objects.values()))
        pointers = set[int]().union(*(known.pointer_rows for known in self._objects.values()))
        return self._bank.reserve(number, maps, pointers)

    def _plan(self, frame: int, ids: Sequence[int]) -> "_Plan":
        """Choose what each object reads and where its memory of this frame goes; send all indices at once."""
        readings = [self._objects[key].recall(frame) if key in self._objects else Reading() for key in ids]
        groups = self._sam2.group_objects([one.size for one in readings], alone=self._alone)
        pages = self._reserve(len(ids))
        numbers = [[page.map for page in pages], [page.pointer for page in pages]]
        parts, ends = [[readings[row] for row in group] for group in groups], [len(numbers)]
        for part in parts:
            numbers += flatten_readings(part)
            ends.append(len(numbers))
        index = send(numbers, self._device)
        return _Plan(pages, index[:2], groups, parts, [index[start:end] for start, end in pairwise(ends)])

    def _read(self, plan: "_Plan", embeds: Tensor) -> Tensor:
        """Condition features (1 or N, C, g, g) on the memories of N objects."""
        if plan.is_in_order:
            return self._sam2.attend(embeds, (self._recall(*part, embeds.dtype) for part in plan.recalled))
        conditioned = embeds.new_empty(len(plan.pages), *embeds.shape[1:])
        for group, (part, index) in zip(plan.groups, plan.recalled, strict=True):
            own = embeds.expand(len(group), -1, -1, -1) if len(embeds) == 1 else embeds[group]
            if part[0].maps:
                conditioned[group] = self._sam2.attend(own, [self._recall(part, index, embeds.dtype)])
            else:
                conditioned[group] = self._sam2.without_memory(own)
        return conditioned

    def _recall(self, readings: list[Reading], index: list[Tensor], dtype: torch.dtype) -> Memories:
        return self._bank.recall(readings, index, self._max_pointers).embed(self._sam2, dtype)


class _Plan(NamedTuple):
    """What N objects read on one frame, and where their memory of it goes."""

    pages: list[Page]
    rows: list[Tensor]  # the pages, on the device
    groups: list[list[int]]  # rows of the objects that are read together
    parts: list[list[Reading]]  # of each group
    index: list[list[Tensor]]  # of each group, on the device

    @property
    def is_in_order(self) -> bool:
        """Whether all objects have memory, and the groups keep their order."""
        order = [row for group in self.groups for row in group]
        return order == sorted(order) and all(part[0].maps for part in self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether all objects are read together."""
        return len(self.groups) == 1 and self.is_in_order

    @property
    def recalled(self) -> Iterator[tuple[list[Reading], list[Tensor]]]:
        return zip(self.parts, self.index, strict=True)
